#!/bin/sh
# Misbehaves as QUERY_STRING says.
head='Content-Type: text/plain\n\n'
# A child that leads a group of its own, which timeout(1) makes, in the session of the script.
leader() {
    timeout 100 sleep 99 >/dev/null 2>&1 </dev/null &
    while read -r _ _ _ _ group _ <"/proc/$!/stat" && [ "$group" != $! ]; do :; done
}
many() { head -c "$1" /dev/zero | tr '\0' x; }
case $QUERY_STRING in
nothing) ;;
text) echo 'This is no header.'; printf "$head" ;;
http) printf 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n' ;;
unfinished) printf 'Content-Type: text/plain\n' ;;
blank) printf "\n$head" ;;
no-field) printf 'X-Anything: 1\n\nbody' ;;
twice) printf "Content-Type: a/b\n$head" ;;
folded) printf 'X-A: 1\n b\n'"$head" ;;
status) printf 'Status: fine\n'"$head" ;;
long) printf 'X-Long: '; many 70000; printf "\n$head" ;;
lf) printf "${head}hello\n" ;;
errors) many 1000000 | fold -w 99 >&2; printf "${head}hello\n" ;;
line) many 1000000 >&2; printf "${head}hello\n" ;;
early) printf "${head}hello\n" ;;
slow-reader) printf "${head}hello\n"; many 300000; cat >/dev/null ;;
child) printf "${head}hello\n"; sleep 100 & ;;
quiet-child) printf "${head}hello\n"; sleep 100 >/dev/null 2>&1 </dev/null & ;;
leader) leader; printf "${head}hello\n" ;;
leader-hangs) leader; touch "$MARK"; wait ;;
leader-behind) (leader); touch "$MARK"; while [ -e "$MARK" ]; do sleep 0.01; done; printf "${head}done\n" ;;
daemon) printf "${head}hello\n"; setsid sleep 100 & ;;
exit-before) echo 'it went wrong' >&2; exit 3 ;;
exit-in-head) printf 'Content-Type: text/plain\n'; exit 3 ;;
exit-after) printf "${head}hello\n"; exit 3 ;;
killed-before) kill -9 $$ ;;
killed-after) printf "${head}hello\n"; kill -SEGV $$ ;;
killed-inside) printf "$head"; many 200000; kill -9 $$ ;;
surplus) printf 'Content-Length: 5\n'"${head}hello and more\n" ;;
trickles) printf "$head"; while :; do echo x; sleep 0.1; done ;;
short) printf 'Content-Length: 10\n'"${head}hello\n" ;;
deleted) rm -f "$MARK"; printf "${head}hello\n"; many 100000 ;;
stops) printf "$head"; many 100000; sleep 100 ;;
babbles) while :; do echo 'no header'; done ;;
mutters) while :; do echo 'no header'; sleep 0.1; done ;;
endless) tr '\0' A </dev/zero ;;
mutters-and-waits) echo 'no header'; touch "$MARK"; while [ -e "$MARK" ]; do sleep 0.01; done; touch "$MARK.done" ;;
hangs) sleep 100 & wait ;;
stubborn) trap '' TERM; touch "$MARK"; while :; do sleep 1; done ;;
writes) touch "$MARK"; printf "$head"; while :; do echo xxxxxxxxxxxxxxxxxxxx; done ;;
closes) exec >&- 2>&-; sleep 100 ;;
marks) touch "$MARK"; sleep 100; rm "$MARK" ;;
waits) touch "$MARK"; while [ -e "$MARK" ]; do sleep 0.01; done; touch "$MARK.done"; printf "${head}done\n" ;;
afterwards) printf 'Content-Length: 6\n'"${head}hello\n"; touch "$MARK"; while [ -e "$MARK" ]; do sleep 0.01; done; touch "$MARK.done" ;;
hints) yes "$(printf 'Status: 103\nLink: </%08000d>; rel=preload' 0)
" | head -n 30000; printf "${head}hello\n"; touch "$MARK" ;;
missing) exec env no-such-interpreter ;;
limits) printf "$head"; ulimit -t; ulimit -v; ulimit -n; ulimit -f; ulimit -c ;;
esac
