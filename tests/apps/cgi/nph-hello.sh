#!/bin/sh
printf 'HTTP/1.0 201 Made\r\nContent-Type: text/plain\r\nConnection: keep-alive\r\n\r\nwhole response\n'
