//! Who is told, of what, and what becomes of secrets on the way.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use super::*;

/// Takes one request, gives this answer, and hands the request over.
fn server(answer: &'static str) -> (u16, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !request.ends_with(b"{\"exit_code\":3}") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&request));
            request.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, taken)
}

fn report() -> Vec<u8> {
    b"{\"exit_code\":3}".to_vec()
}

#[tokio::test]
async fn a_url_gets_the_report() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (port, taken) = server("HTTP/1.1 204 No Content\r\n\r\n");
    let notify = format!("http://127.0.0.1:{port}/hooks/s3cret").parse::<Notify>().unwrap();
    notify.tell(report(), 3, &CancellationToken::new()).await.unwrap();
    let request = taken.join().unwrap();
    assert!(request.starts_with("POST /hooks/s3cret HTTP/1.1"), "{request}");
    assert!(request.contains("content-type: application/json"), "{request}");
}

#[tokio::test]
async fn what_goes_wrong_is_said_without_the_path_of_the_url() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (port, taken) =
        server("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    let notify = format!("http://127.0.0.1:{port}/hooks/s3cret").parse::<Notify>().unwrap();
    let why = notify.tell(report(), 3, &CancellationToken::new()).await.unwrap_err();
    taken.join().unwrap();
    assert!(why.contains("302") && !format!("{notify}: {why}").contains("s3cret"), "{notify}: {why}");
    let notify = "http://127.0.0.1:1/hooks/s3cret".parse::<Notify>().unwrap();
    let why = notify.tell(report(), 3, &CancellationToken::new()).await.unwrap_err();
    assert!(!format!("{notify}: {why}").contains("s3cret"), "{notify}: {why}");
    assert!("https://".parse::<Notify>().is_err());
}

#[tokio::test]
async fn a_command_gets_the_report_and_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let notify =
        format!("cat > {0}; echo \" $LAYERCAST_EXIT_CODE\" >> {0}", seen.display()).parse::<Notify>();
    notify.unwrap().tell(report(), 3, &CancellationToken::new()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), "{\"exit_code\":3} 3\n");
    let failed = "echo 'no route to the pager' >&2; exit 1".parse::<Notify>().unwrap();
    let why = failed.tell(report(), 3, &CancellationToken::new()).await.unwrap_err();
    assert!(why.ends_with("no route to the pager"), "{why}");
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for_once_it_is_told_to_stop() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    for text in [url.as_str(), "sleep 60"] {
        let cancel = CancellationToken::new();
        let notify = text.parse::<Notify>().unwrap();
        let (told, ()) = tokio::join!(notify.tell(report(), 3, &cancel), async { cancel.cancel() });
        assert_eq!(told.unwrap_err(), STOPPED, "{text}");
    }
}

#[test]
fn a_url_is_a_url_however_it_is_written_and_shows_its_host_alone() {
    for text in ["HTTPS://Hooks.example:8443/s3cret", "  http://hooks.example/s3cret\n"] {
        let notify = text.parse::<Notify>().unwrap();
        assert!(matches!(notify, Notify::Url(_)), "{text}");
        assert!(!notify.to_string().contains("s3cret"), "{notify}");
    }
    let wrong = "https://hooks.example:99999/s3cret".parse::<Notify>().unwrap_err();
    assert!(!wrong.contains("s3cret"), "{wrong}");
}
