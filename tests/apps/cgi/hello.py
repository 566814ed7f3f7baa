#!/usr/bin/env python3
import os
import sys

body = sys.stdin.buffer.read()
out = sys.stdout.buffer
out.write(b"Content-Type: text/plain\nX-Language: python\n\n")
out.write(f"{os.environ['REQUEST_METHOD']} {os.environ['QUERY_STRING']} {os.getcwd()}\n".encode() + body)
