//! Content types by a file's ending.
//!
//! Text types have no `charset`, as with nginx and Apache as they come: what is in the file (`<meta charset>`, an XML
//! declaration, a byte order mark) then counts, and an old page in Latin-1 is not shown as broken UTF-8. Who wants one
//! adds a row with it: `html = "text/html; charset=utf-8"`.

/// Of files that nothing is known about: browsers save them and do not guess.
pub const DEFAULT: &str = "application/octet-stream";

/// The longest ending that is looked up, in bytes.
const ENDING_LIMIT: usize = 32;

/// The content types of a site: the usual ones, and these, which win. From an ending in lower case and without its dot to
/// a type that is fit for a field; the ending `*` is for all files that would have no type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Types<'a>(pub &'a [(String, String)]);

impl<'a> Types<'a> {
    /// The type of a file with this name or path: by what follows its last dot, without regard to case.
    #[must_use]
    pub fn of(&self, name: &[u8]) -> &'a str {
        let mut room = [0; ENDING_LIMIT];
        let ending = ending(name, &mut room);
        // Few: nobody has more than a dozen.
        let extra = |ending: &str| {
            let mut rows = self.0.iter();
            rows.find(|(known, _)| known == ending).map(|(_, kind)| kind.as_str())
        };
        let found = ending.and_then(|ending| extra(ending).or_else(|| usual(ending)));
        found.or_else(|| extra("*")).unwrap_or(DEFAULT)
    }
}

/// What follows the last dot of the last name, in lower case. A name that only begins with a dot has no ending.
fn ending<'r>(name: &[u8], room: &'r mut [u8; ENDING_LIMIT]) -> Option<&'r str> {
    let name = name.rsplit(|byte| *byte == b'/').next()?;
    let dot = memchr::memrchr(b'.', name).filter(|dot| *dot > 0)?;
    let ending = name.get(dot + 1..)?;
    let room = room.get_mut(..ending.len())?;
    room.copy_from_slice(ending);
    room.make_ascii_lowercase();
    std::str::from_utf8(room).ok()
}

fn usual(ending: &str) -> Option<&'static str> {
    let place = USUAL.binary_search_by_key(&ending, |(known, _)| known).ok()?;
    USUAL.get(place).map(|(_, kind)| *kind)
}

/// In the order of the endings.
const USUAL: &[(&str, &str)] = &[
    ("3gp", "video/3gpp"),
    ("3gpp", "video/3gpp"),
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("ai", "application/postscript"),
    ("apk", "application/vnd.android.package-archive"),
    ("apng", "image/apng"),
    ("appcache", "text/cache-manifest"),
    ("asc", "text/plain"),
    ("asf", "video/x-ms-asf"),
    ("asx", "video/x-ms-asf"),
    ("atom", "application/atom+xml"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bin", "application/octet-stream"),
    ("bmp", "image/bmp"),
    ("bz2", "application/x-bzip2"),
    ("cab", "application/vnd.ms-cab-compressed"),
    ("cco", "application/x-cocoa"),
    ("cer", "application/x-x509-ca-cert"),
    ("crt", "application/x-x509-ca-cert"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("cur", "image/x-icon"),
    ("deb", "application/octet-stream"),
    ("der", "application/x-x509-ca-cert"),
    ("djv", "image/vnd.djvu"),
    ("djvu", "image/vnd.djvu"),
    ("dll", "application/octet-stream"),
    ("dmg", "application/octet-stream"),
    ("doc", "application/msword"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    ("dot", "application/msword"),
    ("dtd", "application/xml-dtd"),
    ("dvi", "application/x-dvi"),
    ("ear", "application/java-archive"),
    ("eot", "application/vnd.ms-fontobject"),
    ("eps", "application/postscript"),
    ("epub", "application/epub+zip"),
    ("exe", "application/octet-stream"),
    ("flac", "audio/flac"),
    ("flv", "video/x-flv"),
    ("geojson", "application/geo+json"),
    ("gif", "image/gif"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("gpx", "application/gpx+xml"),
    ("gz", "application/gzip"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("hqx", "application/mac-binhex40"),
    ("htc", "text/x-component"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar"),
    ("ifb", "text/calendar"),
    ("img", "application/octet-stream"),
    ("iso", "application/octet-stream"),
    ("jad", "text/vnd.sun.j2me.app-descriptor"),
    ("jar", "application/java-archive"),
    ("jardiff", "application/x-java-archive-diff"),
    ("jfif", "image/jpeg"),
    ("jng", "image/x-jng"),
    ("jnlp", "application/x-java-jnlp-file"),
    ("jp2", "image/jp2"),
    ("jpe", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("kar", "audio/midi"),
    ("kml", "application/vnd.google-earth.kml+xml"),
    ("kmz", "application/vnd.google-earth.kmz"),
    ("latex", "application/x-latex"),
    ("log", "text/plain"),
    ("m3u", "audio/x-mpegurl"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/x-m4a"),
    ("m4v", "video/x-m4v"),
    ("map", "application/json"),
    ("markdown", "text/markdown"),
    ("md", "text/markdown"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "text/javascript"),
    ("mkv", "video/x-matroska"),
    ("mml", "text/mathml"),
    ("mng", "video/x-mng"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mp4v", "video/mp4"),
    ("mpe", "video/mpeg"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("mpga", "audio/mpeg"),
    ("msi", "application/octet-stream"),
    ("msm", "application/octet-stream"),
    ("msp", "application/octet-stream"),
    ("odg", "application/vnd.oasis.opendocument.graphics"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("ogx", "application/ogg"),
    ("opus", "audio/opus"),
    ("otf", "font/otf"),
    ("pdb", "application/x-pilot"),
    ("pdf", "application/pdf"),
    ("pem", "application/x-x509-ca-cert"),
    ("pl", "application/x-perl"),
    ("pm", "application/x-perl"),
    ("png", "image/png"),
    ("pot", "application/vnd.ms-powerpoint"),
    ("pps", "application/vnd.ms-powerpoint"),
    ("ppt", "application/vnd.ms-powerpoint"),
    (
        "pptx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
    ("prc", "application/x-pilot"),
    ("ps", "application/postscript"),
    ("psd", "image/vnd.adobe.photoshop"),
    ("py", "text/x-python"),
    ("qt", "video/quicktime"),
    ("ra", "audio/x-realaudio"),
    ("rar", "application/x-rar-compressed"),
    ("rb", "text/x-ruby"),
    ("rpm", "application/x-redhat-package-manager"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("run", "application/x-makeself"),
    ("sea", "application/x-sea"),
    ("sh", "application/x-sh"),
    ("shtml", "text/html"),
    ("sig", "application/pgp-signature"),
    ("sit", "application/x-stuffit"),
    ("sql", "application/sql"),
    ("stl", "model/stl"),
    ("svg", "image/svg+xml"),
    ("svgz", "image/svg+xml"),
    ("swf", "application/x-shockwave-flash"),
    ("tar", "application/x-tar"),
    ("tcl", "application/x-tcl"),
    ("tex", "application/x-tex"),
    ("text", "text/plain"),
    ("tgz", "application/gzip"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("tk", "application/x-tcl"),
    ("toml", "application/toml"),
    ("torrent", "application/x-bittorrent"),
    ("ts", "video/mp2t"),
    ("tsv", "text/tab-separated-values"),
    ("ttc", "font/collection"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain"),
    ("vcard", "text/vcard"),
    ("vcf", "text/vcard"),
    ("vtt", "text/vtt"),
    ("war", "application/java-archive"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("wbmp", "image/vnd.wap.wbmp"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("wml", "text/vnd.wap.wml"),
    ("wmlc", "application/vnd.wap.wmlc"),
    ("wmv", "video/x-ms-wmv"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xht", "application/xhtml+xml"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    (
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    ("xlt", "application/vnd.ms-excel"),
    ("xml", "text/xml"),
    ("xpi", "application/x-xpinstall"),
    ("xsd", "text/xml"),
    ("xsl", "text/xml"),
    ("xslt", "application/xslt+xml"),
    ("xspf", "application/xspf+xml"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(USUAL.is_sorted_by(|one, next| one.0 < next.0));
        for (ending, kind) in USUAL {
            assert_eq!(usual(ending), Some(*kind));
            assert!(
                !ending.starts_with('.') && *ending == ending.to_ascii_lowercase(),
                "{ending}"
            );
        }
    }

    #[test]
    fn endings() {
        let extra = [("html", "text/html; charset=utf-8"), ("foo", "x/foo")];
        let extra = extra.map(|(ending, kind)| (ending.to_owned(), kind.to_owned()));
        let own = Types(&extra);
        let usual = Types::default();
        for (name, expected) in [
            (&b"a.css"[..], "text/css"),
            (b"A.CSS", "text/css"),
            (b"/x.html/a.css", "text/css"),
            (b"a.min.js", "text/javascript"),
            (b"a.tar.gz", "application/gzip"),
            (b"a.svgz", "image/svg+xml"),
            (b"a.woff2", "font/woff2"),
            (b"a.foo", DEFAULT),
            (b"Makefile", DEFAULT),
            (b"x.css/Makefile", DEFAULT),
            (b".css", DEFAULT),
            (b"a.", DEFAULT),
            (b"", DEFAULT),
            (b"a.\xff", DEFAULT),
            (b"a.cssssssssssssssssssssssssssssssssssssssss", DEFAULT),
        ] {
            assert_eq!(usual.of(name), expected, "{}", name.escape_ascii());
        }
        assert_eq!(own.of(b"a.HTML"), "text/html; charset=utf-8");
        assert_eq!(own.of(b"a.Foo"), "x/foo");
        assert_eq!(own.of(b"a.png"), "image/png");
        let any = [("*".to_owned(), "text/plain".to_owned())];
        let all = Types(&any);
        assert_eq!((all.of(b"README"), all.of(b"a.png")), ("text/plain", "image/png"));
        assert_eq!(all.of(b".profile"), "text/plain");
    }
}
