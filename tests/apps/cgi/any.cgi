#!/bin/sh
# Runs the script beside it that PATH_INFO names, as the same process: one pool of the tests for all scripts.
case $PATH_INFO in
'' | /) printf 'Content-Type: text/plain\n\nhello\n' ;;
*) exec "${0%/*}$PATH_INFO" ;;
esac
