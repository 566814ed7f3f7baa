#!/usr/bin/env perl
# A worker in Perl. Start it with:  rgunicorn --exec docs/examples/pipe_worker.pl
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);

use constant { REQUEST => 1, RESPONSE => 2, BODY => 3, ABORT => 4, REFUSED => 6, READY => 0x10, DRAIN => 0x12 };
use constant END_FLAG => 1;

# Returns the status, a list of names and values, and the body: a string, or a function that is called until it
# returns undef, each result being sent at once.
sub app {
    my ($variables, $body) = @_;
    my $path = $variables->{PATH_INFO};
    my @text = ('Content-Type' => 'text/plain');
    return ('200 OK', \@text, "Hello from Perl\n") if $path eq '/';
    return ('200 OK', ['X-Length' => length $body, 'X-SHA256' => sha256_hex($body)], $body) if $path eq '/echo';
    if ($path eq '/big') {
        my ($n) = $variables->{QUERY_STRING} =~ /^n=(\d+)$/ or die "n is no number\n";
        return ('200 OK', \@text, 'x' x $n);
    }
    return ('200 OK', \@text, join '', map { "$_=$variables->{$_}\n" } sort keys %$variables) if $path eq '/vars';
    if ($path eq '/sse') {
        my $n = 0;
        return ('200 OK', ['Content-Type' => 'text/event-stream'], sub { $n < 5 ? 'data: ' . $n++ . "\n\n" : undef });
    }
    if ($path eq '/broken') {
        my @parts = ('half of it');
        return ('200 OK', \@text, sub { shift @parts // die "broken on purpose\n" });
    }
    return ('404 Not Found', \@text, "Not here\n");
}

my $fd = $ENV{RGUNICORN_FD} // die "start me with: rgunicorn --exec $0\n";
$SIG{PIPE} = 'IGNORE';
open my $in,  '<&=:raw', $fd or die "descriptor $fd: $!\n";
open my $out, '>&=:raw', $fd or die "descriptor $fd: $!\n";
$out->autoflush(1);

sub read_frame {
    exit 0 if (read($in, my $header, 8) // 0) < 8;    # The channel has ended: so has rgunicorn.
    my ($kind, $flags, $id, $length) = unpack 'CCnN', $header;
    exit 0 if (read($in, my $payload, $length) // -1) < $length;
    return ($kind, $flags, $id, $payload);
}

sub send_frame {
    my ($kind, $flags, $id, $payload) = @_;
    print {$out} pack('CCnN', $kind, $flags, $id, length $payload) . $payload or exit 0;
}

sub answer {
    my ($id, $variables, $body) = @_;
    my ($status, $fields, $result) = eval { app($variables, $body) };
    if ($@) {
        warn "$variables->{PATH_INFO}: $@";
        ($status, $fields, $result) = ('500 Internal Server Error', ['Content-Type' => 'text/plain'], "The app failed\n");
    }
    my $head = pack 'N/a*', join "\0", $status, @$fields;
    return send_frame(RESPONSE, END_FLAG, $id, $head . $result) if !ref $result;
    send_frame(RESPONSE, 0, $id, $head);
    my $complete = eval {
        while (defined(my $part = $result->())) { send_frame(BODY, 0, $id, $part) }
        1;
    };
    warn "$variables->{PATH_INFO}: $@" if !$complete;
    $complete ? send_frame(BODY, END_FLAG, $id, '') : send_frame(ABORT, 0, $id, '');
}

send_frame(READY, 0, 0, pack 'n', 1);
while (1) {
    my ($kind, $flags, $id, $payload) = read_frame();
    last if $kind == DRAIN;
    next if $kind != REQUEST;    # An ABORT that came too late, or a frame of a later version.
    my ($block, $body) = unpack 'N/a* a*', $payload;
    chop $block;                 # The last NUL.
    while (!($flags & END_FLAG) && $kind != ABORT) {
        ($kind, my $more_flags, undef, $payload) = read_frame();
        ($flags, $body) = ($more_flags, $body . $payload) if $kind == BODY;
    }
    if ($kind == ABORT) { send_frame(REFUSED, 0, $id, '') }
    else                { answer($id, { split /\0/, $block, -1 }, $body) }
}
