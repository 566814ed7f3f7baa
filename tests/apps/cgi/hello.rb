#!/usr/bin/env ruby
body = $stdin.binmode.read
$stdout.binmode
print "Content-Type: text/plain\nX-Language: ruby\n\n"
print "#{ENV['REQUEST_METHOD']} #{ENV['QUERY_STRING']} #{Dir.pwd}\n", body
