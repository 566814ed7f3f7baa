//! The test app with the published `fastcgi` crate; app.c lists the paths.

use std::io::{Read, Result, Write};
use std::time::Duration;

fn main() {
    fastcgi::run(|mut request| {
        // A client that left is not this program's problem.
        let _ = answer(&mut request);
    });
}

fn number(query: &str, name: &str) -> u64 {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0)
}

fn nap(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn answer(request: &mut fastcgi::Request) -> Result<()> {
    let path = request.param("PATH_INFO").unwrap_or_default();
    let query = request.param("QUERY_STRING").unwrap_or_default();
    match path.as_str() {
        "/" => write!(request.stdout(), "Content-Type: text/plain\r\n\r\nhello\n"),
        "/echo" => echo(request),
        "/big" => big(request, number(&query, "n")),
        "/sse" => {
            write!(request.stdout(), "Content-Type: text/event-stream\r\n\r\n")?;
            for i in 1..=5 {
                write!(request.stdout(), "data: {i}\n\n")?;
                request.stdout().flush()?;
                if i < 5 {
                    nap(60);
                }
            }
            Ok(())
        }
        "/vars" => {
            let lines: String = request.params().map(|(name, value)| format!("{name}={value}\n")).collect();
            write!(request.stdout(), "Content-Type: text/plain\r\n\r\n{lines}")
        }
        "/sleep" => {
            let ms = number(&query, "ms");
            nap(ms);
            write!(request.stdout(), "Content-Type: text/plain\r\n\r\nslept {ms}\n")
        }
        "/status" => {
            let code = number(&query, "code");
            write!(request.stdout(), "Status: {code}\r\nContent-Type: text/plain\r\n\r\nstatus {code}\n")
        }
        "/pid" => write!(request.stdout(), "Content-Type: text/plain\r\n\r\n{}\n", std::process::id()),
        _ => write!(request.stdout(), "Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno such path\n"),
    }
}

fn echo(request: &mut fastcgi::Request) -> Result<()> {
    let kind = request.param("CONTENT_TYPE").unwrap_or_else(|| "application/octet-stream".to_owned());
    let mut body = Vec::new();
    request.stdin().read_to_end(&mut body)?;
    write!(request.stdout(), "Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len())?;
    request.stdout().write_all(&body)
}

fn big(request: &mut fastcgi::Request, n: u64) -> Result<()> {
    let block = b"0123456789abcdef".repeat(4096);
    write!(request.stdout(), "Content-Type: application/octet-stream\r\nContent-Length: {n}\r\n\r\n")?;
    let mut left = n;
    while left > 0 {
        let part = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        request.stdout().write_all(&block[..part])?;
        left -= part as u64;
    }
    Ok(())
}
