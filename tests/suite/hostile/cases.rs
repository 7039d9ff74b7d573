//! Every answer that could hurt, and what is made of it.

use super::server::Says;

/// An answer, and why a request ends that meets it.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) says: Says,
    /// Asked to unblock, to read or to list; nothing where the answer is taken.
    pub(super) asked: Option<&'static str>,
    /// Asked for a token.
    pub(super) granted: &'static str,
}

impl Case {
    /// Whether nothing but the deadline ends it.
    pub(super) fn is_endless(&self) -> bool {
        match &self.says {
            Says::Drip(..) => true,
            // Informational answers: read, and forgotten.
            Says::Flood(first, _) => first.is_empty(),
            Says::Bytes(_) | Says::Last(_) | Says::Reset(_) => false,
        }
    }
}

const PROTOCOL: Option<&str> = Some("UPSTREAM_PROTOCOL");
/// The effect is unknown.
const TIMEOUT: Option<&str> = Some("UPSTREAM_TIMEOUT");
const REFUSED: &str = "UPSTREAM_CREDENTIAL_REFUSED";
const UNAVAILABLE: &str = "UPSTREAM_UNAVAILABLE";

/// A list that is empty, and a device that could be any: what would be taken if it were understood.
pub(super) const EMPTY: &str = r#"{"size":0}"#;
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0";
const DEFLATE: &[u8] = b"\x78\x9c\xab\xae\x05\0\x01\x75\0\xf9";
const BROTLI: &[u8] = b"\x8b\0\x80{}\x03";

/// 200 with these headers and that body, whose length is said.
pub(super) fn ok(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    answer("200 OK", headers, body.as_ref())
}

pub(super) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// `trap` is another server, which nobody must speak to.
pub(super) fn all(trap: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, says, asked, granted| cases.push(Case { name, says, asked, granted });
    let flood = |head: &str, again: &str| Says::Flood(bytes(head), bytes(again));
    let drip = |head: &str, again: &str| Says::Drip(bytes(head), bytes(again));
    let json = |text: &str| Says::Bytes(ok("", text));

    // Too much.
    add(
        "64 MiB, as announced",
        flood("HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n", "x"),
        PROTOCOL,
        REFUSED,
    );
    add(
        "64 MiB in chunks",
        flood("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "4\r\nxxxx\r\n"),
        PROTOCOL,
        REFUSED,
    );
    add("64 MiB until the end", flood("HTTP/1.1 200 OK\r\n\r\n", "{\"a\":"), PROTOCOL, REFUSED);
    add("64 MiB of an error", flood("HTTP/1.1 400 Bad\r\n\r\n", "x"), Some("UPSTREAM_REJECTED"), REFUSED);
    add(
        "more bytes than there are",
        flood("HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775807\r\n\r\n", "x"),
        PROTOCOL,
        REFUSED,
    );
    add(
        "headers without an end",
        flood("HTTP/1.1 200 OK\r\n", "x: yyyyyyyyyyyyyyyyyyyyyy\r\n"),
        TIMEOUT,
        UNAVAILABLE,
    );
    add("a header without an end", flood("HTTP/1.1 200 OK\r\nx: ", "y"), TIMEOUT, UNAVAILABLE);
    add("a status line without an end", flood("HTTP/1.1 200 ", "O"), TIMEOUT, UNAVAILABLE);
    add(
        "1 MiB of headers",
        Says::Last(ok(&format!("x: {}\r\n", "y".repeat(1 << 20)), EMPTY)),
        TIMEOUT,
        UNAVAILABLE,
    );
    add("a thousand headers", Says::Last(ok(&"x: y\r\n".repeat(1000), EMPTY)), TIMEOUT, UNAVAILABLE);
    add(
        "a chunk's extension without an end",
        flood("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", "x"),
        PROTOCOL,
        UNAVAILABLE,
    );
    add(
        "trailers without an end",
        flood("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n", "x: y\r\n"),
        PROTOCOL,
        UNAVAILABLE,
    );

    // Compressed, though nobody asked for it: taken as it is, or there would be bombs.
    for (name, encoding, body) in
        [("gzip", "gzip", GZIP), ("deflate", "deflate", DEFLATE), ("brotli", "br", BROTLI)]
    {
        let answer = ok(&format!("content-encoding: {encoding}\r\n"), body);
        add(name, Says::Bytes(answer), PROTOCOL, REFUSED);
    }

    // Too slow, or never.
    add("a head that drips", drip("HTTP/1.1 200 OK\r\nx: ", "y"), TIMEOUT, UNAVAILABLE);
    add(
        "a body that drips",
        drip("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{", " "),
        TIMEOUT,
        UNAVAILABLE,
    );
    add(
        "chunks that drip",
        drip("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\n \r\n"),
        TIMEOUT,
        UNAVAILABLE,
    );
    add("100 for ever", drip("", "HTTP/1.1 100 Continue\r\n\r\n"), TIMEOUT, UNAVAILABLE);
    add(
        "103 for ever",
        drip("", "HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"),
        TIMEOUT,
        UNAVAILABLE,
    );
    add("64 MiB of 100", flood("", "HTTP/1.1 100 Continue\r\n\r\n"), TIMEOUT, UNAVAILABLE);

    // Lengths that are not so.
    add(
        "shorter than it says",
        Says::Last(bytes("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}")),
        PROTOCOL,
        UNAVAILABLE,
    );
    add(
        "longer than it says",
        Says::Bytes(bytes("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}")),
        PROTOCOL,
        REFUSED,
    );
    add(
        "two lengths",
        Says::Bytes(bytes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ")),
        TIMEOUT,
        UNAVAILABLE,
    );
    add(
        "no length at all",
        Says::Bytes(bytes("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}")),
        TIMEOUT,
        UNAVAILABLE,
    );
    add(
        "a chunk of no length",
        Says::Bytes(bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n")),
        PROTOCOL,
        UNAVAILABLE,
    );
    add(
        "a chunk longer than can be",
        Says::Bytes(bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}")),
        PROTOCOL,
        UNAVAILABLE,
    );

    // Sent elsewhere.
    for status in ["300 Choose", "301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"] {
        for elsewhere in
            [trap, "http://169.254.169.254/latest/meta-data/", "//169.254.169.254/", "file:///etc/passwd"]
        {
            let says = Says::Bytes(answer(status, &format!("location: {elsewhere}\r\n"), b""));
            add("a redirect", says, PROTOCOL, REFUSED);
        }
    }
    add(
        "another protocol",
        Says::Bytes(bytes("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")),
        PROTOCOL,
        REFUSED,
    );

    // Not HTTP, or nearly.
    add("an alert of TLS", Says::Last(b"\x15\x03\x03\0\x02\x02\x46".to_vec()), TIMEOUT, UNAVAILABLE);
    add("HTTP/2", Says::Last(b"\0\0\0\x04\0\0\0\0\0".to_vec()), TIMEOUT, UNAVAILABLE);
    add("HTTP/0.9", Says::Last(bytes("{}")), TIMEOUT, UNAVAILABLE);
    add("nothing", Says::Last(Vec::new()), TIMEOUT, UNAVAILABLE);
    add("a reset at once", Says::Reset(Vec::new()), TIMEOUT, UNAVAILABLE);
    add("a reset in the head", Says::Reset(bytes("HTTP/1.1 200 OK\r\nconte")), TIMEOUT, UNAVAILABLE);
    add(
        "a header that breaks its line",
        Says::Last(ok("x: a\rset-cookie: b\r\n", EMPTY)),
        TIMEOUT,
        UNAVAILABLE,
    );
    add("a header that is folded", Says::Last(ok("x: a\r\n  b\r\n", EMPTY)), TIMEOUT, UNAVAILABLE);
    add("a NUL in a header", Says::Last(ok("x: a\0b\r\n", EMPTY)), TIMEOUT, UNAVAILABLE);
    add("a NUL in a name", Says::Last(ok("x\0y: a\r\n", EMPTY)), TIMEOUT, UNAVAILABLE);

    // Not JSON, or nearly.
    add("10,000 deep", json(&format!("{{\"a\":{}", "[".repeat(10_000))), PROTOCOL, REFUSED);
    add(
        "10,000 deep and closed",
        json(&format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000))),
        PROTOCOL,
        REFUSED,
    );
    add(
        "an error 10,000 deep",
        Says::Bytes(answer("400 Bad", "", "[".repeat(10_000).as_bytes())),
        Some("UPSTREAM_REJECTED"),
        REFUSED,
    );
    add("no UTF-8", Says::Bytes(ok("", b"{\"size\":0,\"a\":\"\xff\xfe\"}")), PROTOCOL, REFUSED);
    add("half of a surrogate", json(r#"{"size":0,"a":"\ud800"}"#), PROTOCOL, REFUSED);
    add(
        "UTF-16",
        Says::Bytes(ok("content-type: application/json; charset=utf-16\r\n", b"\xff\xfe{\0}\0")),
        PROTOCOL,
        REFUSED,
    );
    add("a NUL", json("{\"size\":0,\"a\":\"\0\"}"), PROTOCOL, REFUSED);
    add(
        "a number beyond all numbers",
        json(r#"{"size":0,"expires_in":1e999,"access_token":"t"}"#),
        PROTOCOL,
        REFUSED,
    );
    add(
        "a number of 100,000 digits",
        json(&format!(r#"{{"size":0,"expires_in":{}}}"#, "9".repeat(60_000))),
        PROTOCOL,
        REFUSED,
    );
    add("two documents", json("{\"size\":0}{\"size\":0}"), PROTOCOL, REFUSED);

    // Taken, but nothing more is done.
    let led_on = format!(
        "link: <{trap}>; rel=preload\r\nlink: <{trap}>; rel=next\r\nalt-svc: h2=\"{}\"; ma=9\r\nrefresh: 0; url={trap}\r\n\
         set-cookie: a=b; path=/\r\nlocation: {trap}\r\ncontent-location: {trap}\r\nstrict-transport-security: max-age=9\r\n",
        trap.trim_start_matches("http://")
    );
    add("headers that lead elsewhere", Says::Bytes(ok(&led_on, EMPTY)), None, REFUSED);
    add("the same name twice", json(r#"{"size":7,"size":0,"a":1,"a":2}"#), None, REFUSED);
    add("a NUL that is escaped", json(r#"{"size":0,"a\u0000":"\u0000"}"#), None, REFUSED);
    add(
        "a number that is large",
        json(r#"{"size":0,"a":123456789012345678901234567890,"b":1e308}"#),
        None,
        REFUSED,
    );
    add(
        "deep, but not too deep",
        json(&format!("{{\"size\":0,\"a\":{}1{}}}", "{\"a\":".repeat(120), "}".repeat(120))),
        None,
        REFUSED,
    );
    add("all numbers", json(&format!(r#"{{"size":0,"a":[{}0]}}"#, "0,".repeat(32_000))), None, REFUSED);
    add("more than a device", json(&format!(r#"{{"id":"{}"}}"#, "x".repeat(64 * 1024))), PROTOCOL, REFUSED);
    cases
}
