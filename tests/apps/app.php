<?php
// The test app for php-cgi and php-fpm; app.c lists the paths.
while (ob_get_level() > 0) {
    ob_end_clean();
}
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
header('Content-Type: text/plain');
switch ($path) {
    case '/':
        echo "hello\n";
        break;
    case '/echo':
        header('Content-Type: ' . ($_SERVER['CONTENT_TYPE'] ?? 'application/octet-stream'));
        if (($_SERVER['CONTENT_LENGTH'] ?? '') !== '') {
            header('Content-Length: ' . $_SERVER['CONTENT_LENGTH']);
        }
        $body = fopen('php://input', 'rb');
        while (($block = fread($body, 65536)) !== false && $block !== '') {
            echo $block;
        }
        break;
    case '/big':
        $left = (int) $_GET['n'];
        header('Content-Type: application/octet-stream');
        header("Content-Length: $left");
        $block = str_repeat('0123456789abcdef', 4096);
        for (; $left > 0; $left -= strlen($block)) {
            echo $left < strlen($block) ? substr($block, 0, $left) : $block;
        }
        break;
    case '/sse':
        header('Content-Type: text/event-stream');
        for ($i = 1; $i <= 5; $i++) {
            echo "data: $i\n\n";
            flush();
            if ($i < 5) {
                usleep(60000);
            }
        }
        break;
    case '/vars':
        foreach ($_SERVER as $name => $value) {
            if (is_string($value)) {
                echo "$name=$value\n";
            }
        }
        break;
    case '/sleep':
        usleep(1000 * (int) $_GET['ms']);
        echo 'slept ', (int) $_GET['ms'], "\n";
        break;
    case '/status':
        http_response_code((int) $_GET['code']);
        echo 'status ', (int) $_GET['code'], "\n";
        break;
    case '/pid':
        echo getmypid(), "\n";
        break;
    default:
        http_response_code(404);
        echo "no such path\n";
}
