#!/bin/sh
printf 'Content-Type: text/plain\r\nX-Language: sh\r\n\r\n'
printf '%s %s %s\n' "$REQUEST_METHOD" "$QUERY_STRING" "$(pwd)"
cat
