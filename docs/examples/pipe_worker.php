#!/usr/bin/env php
<?php
// A worker in PHP. Start it with:  rgunicorn --exec docs/examples/pipe_worker.php
declare(strict_types=1);

const REQUEST = 1, RESPONSE = 2, BODY = 3, ABORT = 4, REFUSED = 6, READY = 0x10, DRAIN = 0x12;
const END = 1;

/** Returns status, fields, and the body: a string, or a generator of strings that are sent one by one. */
function app(array $variables, string $body): array
{
    $text = ['Content-Type' => 'text/plain'];
    parse_str($variables['QUERY_STRING'] ?? '', $query);
    return match ($variables['PATH_INFO']) {
        '/' => ['200 OK', $text, "Hello from PHP\n"],
        '/echo' => ['200 OK', ['X-Length' => strlen($body), 'X-SHA256' => hash('sha256', $body)], $body],
        '/big' => ['200 OK', $text, str_repeat('x', 0 + $query['n'])],
        '/sse' => ['200 OK', ['Content-Type' => 'text/event-stream'], events()],
        '/broken' => ['200 OK', $text, broken()],
        '/vars' => ['200 OK', $text, lines($variables)],
        default => ['404 Not Found', $text, "Not here\n"],
    };
}

function events(): Generator
{
    for ($n = 0; $n < 5; $n++) {
        yield "data: $n\n\n";
    }
}

function broken(): Generator
{
    yield 'half of it';
    throw new Exception('broken on purpose');
}

function lines(array $variables): string
{
    ksort($variables, SORT_STRING);
    return implode('', array_map(fn($name) => "$name=$variables[$name]\n", array_keys($variables)));
}

function read_exactly(int $length): string
{
    global $channel;
    $data = $length ? stream_get_contents($channel, $length) : '';
    if ($data === false || strlen($data) < $length) {
        exit(0); // The channel has ended: so has rgunicorn.
    }
    return $data;
}

function read_frame(): array
{
    ['kind' => $kind, 'flags' => $flags, 'id' => $id, 'length' => $length] =
        unpack('Ckind/Cflags/nid/Nlength', read_exactly(8));
    return [$kind, $flags, $id, read_exactly($length)];
}

function send(int $kind, int $flags, int $id, string $payload = ''): void
{
    global $channel;
    $frame = pack('CCnN', $kind, $flags, $id, strlen($payload)) . $payload;
    if (@fwrite($channel, $frame) !== strlen($frame)) {
        exit(0);
    }
}

function answer(int $id, array $variables, string $body): void
{
    $begun = false;
    try {
        [$status, $fields, $result] = app($variables, $body);
        $head = $status;
        foreach ($fields as $name => $value) {
            $head .= "\0$name\0$value";
        }
        $head = pack('N', strlen($head)) . $head;
        $begun = true;
        if (is_string($result)) {
            send(RESPONSE, END, $id, $head . $result);
            return;
        }
        send(RESPONSE, 0, $id, $head);
        foreach ($result as $part) {
            send(BODY, 0, $id, $part);
        }
        send(BODY, END, $id);
    } catch (Throwable $error) {
        fwrite(STDERR, "{$variables['PATH_INFO']}: {$error->getMessage()}\n");
        $head = "500 Internal Server Error\0Content-Type\0text/plain";
        $begun ? send(ABORT, 0, $id) : send(RESPONSE, END, $id, pack('N', strlen($head)) . $head . "The app failed\n");
    }
}

$fd = getenv('RGUNICORN_FD');
if ($fd === false) {
    fwrite(STDERR, "start me with: rgunicorn --exec {$argv[0]}\n");
    exit(1);
}
$channel = fopen("php://fd/$fd", 'r+b');
send(READY, 0, 0, pack('n', 1));
while (true) {
    [$kind, $flags, $id, $payload] = read_frame();
    if ($kind === DRAIN) {
        break;
    }
    if ($kind !== REQUEST) {
        continue; // An ABORT that came too late, or a frame of a later version.
    }
    $size = unpack('N', $payload)[1];
    $pieces = explode("\0", substr($payload, 4, $size));
    $body = substr($payload, 4 + $size);
    while (!($flags & END) && $kind !== ABORT) {
        [$kind, $moreFlags, , $payload] = read_frame();
        if ($kind === BODY) {
            $body .= $payload;
            $flags = $moreFlags;
        }
    }
    if ($kind === ABORT) {
        send(REFUSED, 0, $id);
        continue;
    }
    $variables = [];
    for ($at = 0; $at + 1 < count($pieces); $at += 2) {
        $variables[$pieces[$at]] = $pieces[$at + 1];
    }
    answer($id, $variables, $body);
}
