#!/usr/bin/perl
# The test app with FCGI.pm; app.c lists the paths.
use strict;
use warnings;
use FCGI;
use Time::HiRes qw(sleep);

my %env;
my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \%env);

sub number { my ($name) = @_; return ($env{QUERY_STRING} // '') =~ /(?:^|&)$name=(\d+)/ ? $1 : 0 }

sub answer {
    my $path = $env{PATH_INFO} || '/';
    if ($path eq '/') { print "Content-Type: text/plain\r\n\r\nhello\n" }
    elsif ($path eq '/echo') {
        my $type = $env{CONTENT_TYPE} || 'application/octet-stream';
        print "Content-Type: $type\r\n";
        print "Content-Length: $env{CONTENT_LENGTH}\r\n" if ($env{CONTENT_LENGTH} // '') ne '';
        print "\r\n";
        my $block;
        print $block while read(STDIN, $block, 65536);
    }
    elsif ($path eq '/big') {
        my $left = number('n');
        my $block = '0123456789abcdef' x 4096;
        print "Content-Type: application/octet-stream\r\nContent-Length: $left\r\n\r\n";
        while ($left > 0) {
            my $part = $left < length $block ? $left : length $block;
            print substr($block, 0, $part);
            $left -= $part;
        }
    }
    elsif ($path eq '/sse') {
        print "Content-Type: text/event-stream\r\n\r\n";
        for my $i (1 .. 5) {
            print "data: $i\n\n";
            $request->Flush();
            sleep 0.06 if $i < 5;
        }
    }
    elsif ($path eq '/vars') {
        print "Content-Type: text/plain\r\n\r\n", map { "$_=$env{$_}\n" } sort keys %env;
    }
    elsif ($path eq '/sleep') {
        sleep number('ms') / 1000;
        print "Content-Type: text/plain\r\n\r\nslept ", number('ms'), "\n";
    }
    elsif ($path eq '/status') {
        print 'Status: ', number('code'), "\r\nContent-Type: text/plain\r\n\r\nstatus ", number('code'), "\n";
    }
    elsif ($path eq '/pid') { print "Content-Type: text/plain\r\n\r\n$$\n" }
    else { print "Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno such path\n" }
}

answer() while $request->Accept() >= 0;
