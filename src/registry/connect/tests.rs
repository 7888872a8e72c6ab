//! The first words: schemes, certificates, hosts that are dead or no registries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::registry::testing::{
    Told, answer, authority, options, raw_server, registry, request_head, tls_server, trusted,
};
use crate::registry::{ClientOptions, FailureKind, Registry, Target};

#[tokio::test]
async fn a_dead_host_is_waited_for_and_then_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for text in [format!("http://127.0.0.1:{port}"), format!("127.0.0.1:{port}")] {
        let target: Target = text.parse().unwrap();
        let start = Instant::now();
        let error = Registry::connect(&target.endpoint, options()).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unreachable, "{error:?}");
        assert!(start.elapsed() >= Duration::from_millis(100));
    }
}

#[tokio::test]
async fn plain_http_is_found_on_this_machine_only_and_never_with_an_authority_of_its_own() {
    let (here, _) = registry(|_, _| answer(200, &[], "")).await;
    let target: Target = here.parse().unwrap();
    let registry = Registry::connect(&target.endpoint, options()).await.unwrap();
    assert_eq!(registry.endpoint().to_string(), format!("http://{here}"));
    let told = Arc::new(Told::default());
    let for_all =
        ClientOptions { authorities: vec![trusted(&authority().0)], observer: told.clone(), ..options() };
    let registry = Registry::connect(&target.endpoint, for_all.clone()).await.unwrap();
    assert_eq!(registry.endpoint().to_string(), format!("http://{here}"));
    assert!(told.warnings()[0].contains("speaks plain HTTP"), "{:?}", told.warnings());
    let strict = ClientOptions { must_speak_tls: true, ..for_all };
    let error = Registry::connect(&target.endpoint, strict).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Tls);
    assert!(error.hint().unwrap().contains("http://"), "{error:?}");
}

#[tokio::test]
async fn a_certificate_of_nobody_we_know_is_final_until_its_authority_is_given() {
    use std::io::{Read, Write};
    let options = options();
    let (certificate, key) = authority();
    let config = tls_server(&certificate, &key);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&connections);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket.unwrap());
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let target: Target = format!("https://{here}").parse().unwrap();
    let error = Registry::connect(&target.endpoint, options.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (FailureKind::Tls, false), "{error:?}");
    assert!(error.hint().unwrap().contains("--cacert"), "{error:?}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let trusting = ClientOptions { authorities: vec![trusted(&certificate)], ..options.clone() };
    Registry::connect(&target.endpoint, trusting).await.unwrap();
    // Found by itself on this machine, and not taken for plain HTTP.
    let unstated: Target = here.to_string().parse().unwrap();
    assert_eq!(Registry::connect(&unstated.endpoint, options).await.unwrap_err().kind(), FailureKind::Tls);
}

#[tokio::test]
async fn what_is_no_registry_is_called_that() {
    let page = "<!doctype html><title>Sign in</title>";
    let (login, _) = registry(move |_, _| answer(200, &[("content-type", "text/html")], page)).await;
    let elsewhere = format!("http://{}/login", login.replace("127.0.0.1", "localhost"));
    let (led, _) = registry(move |_, _| answer(302, &[("location", &elsewhere)], "")).await;
    for (here, part) in
        [(login, "a web page answers, titled \"Sign in\""), (led, "it leads to localhost, where a web")]
    {
        let target: Target = format!("http://{here}").parse().unwrap();
        let error = Registry::connect(&target.endpoint, options()).await.unwrap_err();
        assert!(
            error.to_string().contains("no container registry") && error.to_string().contains(part),
            "{error}"
        );
        assert_eq!((error.kind(), error.is_retryable()), (FailureKind::Registry, false));
        assert!(error.hint().unwrap().contains("login page"));
    }
}

#[tokio::test]
async fn a_ping_that_leads_to_https_names_it() {
    use std::io::{Read, Write};
    let (certificate, key) = authority();
    let tls = tls_server(&certificate, &key);
    let secure = raw_server(move |socket| {
        let session = rustls::ServerConnection::new(Arc::clone(&tls)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, socket);
        let _ = stream.read(&mut [0; 4096])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
    });
    let (here, _) = registry(move |seen, _| {
        answer(301, &[("location", &format!("https://{secure}{}", seen.target))], "")
    })
    .await;
    let target: Target = format!("http://{here}").parse().unwrap();
    let options = ClientOptions { authorities: vec![trusted(&certificate)], ..options() };
    let error = Registry::connect(&target.endpoint, options).await.unwrap_err();
    assert!(error.to_string().contains(&format!("it redirects to https://{secure}")), "{error}");
    assert!(error.hint().unwrap().contains(&format!("write https://{secure}")), "{error:?}");
}

#[tokio::test]
async fn a_server_that_says_yes_to_everything_is_no_registry() {
    let (here, _) =
        registry(|_, _| answer(200, &[("content-type", "application/json")], r#"{"status":"ok"}"#)).await;
    let target: Target = format!("http://{here}").parse().unwrap();
    let registry = Registry::connect(&target.endpoint, options()).await.unwrap();
    let error = registry.get_manifest(&"a".parse().unwrap(), "1", 1000).await.unwrap_err();
    assert!(error.to_string().contains("no container registry"), "{error}");
}

#[tokio::test]
async fn a_registry_that_takes_connections_and_never_answers_is_given_up() {
    let here = raw_server(|mut socket| {
        let _ = request_head(&mut socket);
        std::thread::sleep(Duration::from_secs(30));
        Ok(())
    });
    let mut options = options();
    options.timeouts.connect = Duration::from_millis(300);
    let target: Target = format!("http://{here}").parse().unwrap();
    let start = Instant::now();
    let error = Registry::connect(&target.endpoint, options).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unreachable, "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_service_that_speaks_no_http_is_told_soon() {
    let here = raw_server(|mut socket| std::io::Write::write_all(&mut socket, b"SSH-2.0-OpenSSH_9.2\r\n"));
    for address in [here.to_string(), format!("http://{here}")] {
        let target: Target = address.parse().unwrap();
        let mut options = options();
        options.retry.connect_patience = Duration::from_secs(20);
        let error = Registry::connect(&target.endpoint, options).await.unwrap_err();
        assert!(error.to_string().contains("does not speak HTTP"), "{error}");
        assert!(error.hint().unwrap().contains("is the port right"), "{error:?}");
    }
}

#[tokio::test]
async fn clear_text_at_a_port_that_speaks_tls_is_told_soon() {
    use std::io::Read as _;
    let _ = options();
    let (certificate, key) = authority();
    let config = tls_server(&certificate, &key);
    // Some hang up on what is no handshake, some wait for more of it.
    for hangs_up in [true, false] {
        let config = Arc::clone(&config);
        let here = raw_server(move |socket| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket);
            if stream.read(&mut [0; 4096]).is_err() && !hangs_up {
                std::thread::sleep(Duration::from_secs(30));
            }
            Ok(())
        });
        let target: Target = format!("http://{here}").parse().unwrap();
        let start = Instant::now();
        let mut options = options();
        options.retry.connect_patience = Duration::from_secs(20);
        let error = Registry::connect(&target.endpoint, options).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Tls, "{error:?}");
        assert!(error.hint().unwrap().contains("https://"), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}
