#!/bin/sh
# All kinds of response of RFC 3875 §6.2, as QUERY_STRING says.
case $QUERY_STRING in
local) printf 'Location: /hello.sh?from=local\n\n' ;;
loop) printf 'Location: /kinds.sh?loop\n\n' ;;
local-status) printf 'Status: 303\nLocation: /elsewhere\n\n' ;;
client) printf 'Location: http://example.org/x\n\n' ;;
other-host) printf 'Location: //example.org/x\n\n' ;;
document) printf 'Location: http://example.org/x\nStatus: 301 Moved\nContent-Type: text/plain\n\nmoved\n' ;;
status) printf 'Status: 404 Nothing here\nContent-Type: text/plain\n\nnothing\n' ;;
no-content) printf 'Status: 204\n\n' ;;
early) printf 'Status: 103\nLink: </a.css>; rel=preload\n\nContent-Type: text/plain\n\nhello\n' ;;
cookies) printf 'Set-Cookie: a=1\nSet-Cookie: b=2\nContent-Type: text/plain\n\n' ;;
hop) printf 'Connection: close\nTransfer-Encoding: chunked\nX-CGI-Secret: 1\nContent-Type: text/plain\n\nhello\n' ;;
environment) printf 'Content-Type: text/plain\n\n'; env | sort ;;
esac
