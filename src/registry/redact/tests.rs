use super::*;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

#[test]
fn nothing_that_may_be_a_secret_is_shown_of_a_url() {
    for (url, expected) in [
        (
            "https://u:p@r.example:5/v2/a/blobs/uploads/uuid-1?_state=secret&digest=sha256%3A1",
            "https://r.example:5/v2/a/blobs/uploads/…?…&digest=sha256:1",
        ),
        ("https://r.example/v2/a/blobs/uploads/?from=b", "https://r.example/v2/a/blobs/uploads/?from=b"),
        ("https://s3.example/x?X-Amz-Signature=1&sig=2#frag", "https://s3.example/x?…&…"),
        ("http://[::1]:5000/v2/a?ns=gcr.io", "http://[::1]:5000/v2/a?ns=gcr.io"),
    ] {
        assert_eq!(redacted(&Url::parse(url).unwrap()), expected);
    }
}

fn escaped(text: &str) -> String {
    percent_encoding::percent_encode(text.as_bytes(), percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[test]
fn secrets_are_left_out_in_every_form() {
    for secret in
        ["hunter2", "p@ss w0rd/é\"&x", "c4n4ry-p4ssw0rd-x", "a-token.of-forty.characters_and-then-some"]
    {
        let secrets = SecretWords::default();
        secrets.remember(&secret.into());
        let pair = STANDARD.encode(format!("user:{secret}"));
        let json = serde_json::to_string(secret).unwrap();
        let ascii = secret.chars().fold(String::new(), |mut text, c| {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
            text
        });
        let html = secret.replace('&', "&amp;").replace('"', "&quot;").replace('/', "&#x2f;");
        for quoted in [
            secret.to_owned(),
            STANDARD.encode(secret),
            URL_SAFE_NO_PAD.encode(format!("x{secret}")),
            STANDARD.encode(format!("xy{secret}z")),
            pair.clone(),
            escaped(&pair),
            escaped(secret),
            escaped(secret).replace("%2D", "%2d"),
            json.trim_matches('"').to_owned(),
            ascii,
            html,
        ] {
            let shown = secrets.blank(&format!("you sent [{quoted}], which is wrong"));
            assert_eq!(shown, "you sent […], which is wrong", "{quoted}");
        }
        assert_eq!(secrets.blank("nothing of it"), "nothing of it");
    }
}

#[test]
fn secrets_are_left_out_behind_escapes_of_escapes_and_control_characters() {
    let secret = "Kp/3+ x=Z%q\"w\\e&<r>😀9T";
    let secrets = SecretWords::default();
    secrets.remember(&secret.into());
    let json = |text: &str| serde_json::to_string(text).unwrap().trim_matches('"').to_owned();
    let go = |text: &str| json(text).replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    let html = |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let (first, second) = secret.split_at(9);
    for quoted in [
        json(&json(secret)),
        go(&go(secret)),
        html(&json(secret)),
        json(&html(secret)),
        html(&html(secret)),
        escaped(&escaped(secret)),
        escaped(secret).replace("%20", "+"),
        json(secret).replace("😀", "\\ud83d\\ude00"),
        secret.bytes().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\x{byte:02x}");
            text
        }),
        format!("{:x}", Hex(secret)),
        format!("{:X}", Hex(&format!("user:{secret}"))),
        format!("{first}\x1b[31;1m{second}"),
        format!("{first}\n{second}"),
        json(&format!("{first}\r\n{second}")),
        format!("{first}\u{200b}{second}"),
    ] {
        let shown = secrets.blank(&format!("you sent ({quoted}), which is wrong"));
        assert_eq!(shown, "you sent (…), which is wrong", "{quoted}");
    }
}

#[test]
fn a_short_secret_is_left_out_where_it_stands_alone() {
    let secrets = SecretWords::default();
    secrets.remember(&"pw".into());
    assert_eq!(secrets.blank("user:pw@host, a pwd; pw"), "user:…@host, a pwd; …");
}

/// An answer may quote the token of its request after that token was replaced.
#[test]
fn a_token_that_was_replaced_is_known_until_many_more_were() {
    let secrets = Arc::new(SecretWords::default());
    let token = |number: usize| format!("token-of-request-{number:06}-{number:06}");
    let blank = |number| secrets.blank(&token(number)) == "…";
    for number in 0..=LINGERING {
        drop(secrets.remember_beyond(&token(number).into()));
        assert!(blank(number));
    }
    assert!(!blank(0) && blank(1));
}

#[test]
fn a_token_is_known_while_it_lasts() {
    let secrets = Arc::new(SecretWords::default());
    let token = "eyJhbGciOiJub25lIn0.e30.".to_owned();
    let kept = secrets.remember_while(&token.clone().into());
    assert_eq!(secrets.blank(&format!("Bearer {token}")), "Bearer …");
    drop(kept);
    assert_eq!(secrets.blank(&token), token);
}
