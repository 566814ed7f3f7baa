#!/usr/bin/perl
use strict;
use warnings;
use Cwd;
binmode STDIN;
my $body = do { local $/; <STDIN> } // '';
print "Content-Type: text/plain\nX-Language: perl\n\n";
print "$ENV{REQUEST_METHOD} $ENV{QUERY_STRING} " . getcwd() . "\n$body";
