//! Tags as a client sees them.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::tests::{codes, header, with_registry};
use super::*;

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let (_folder, registry) = with_registry().await;
    assert_eq!(codes(registry.send(Method::GET, "a/tags/list").await).await, ["NAME_UNKNOWN"]);
    for tag in ["c", "a", "B"] {
        registry.image("a", tag).await;
    }
    let (mut path, mut pages) = ("a/tags/list?n=2".to_owned(), Vec::new());
    loop {
        let response = registry.send(Method::GET, &path).await;
        let link = header(&response, "link").to_owned();
        let body: Value = response.json().await.unwrap();
        pages.push(body["tags"].clone());
        let Some(next) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else { break };
        assert_eq!(next.1, "; rel=\"next\"");
        path = next.0.to_owned();
    }
    assert_eq!(pages, [json!(["a", "B"]), json!(["c"])]);
    assert_eq!(registry.send(Method::GET, "a/tags/list?n=x").await.status(), 400);
    registry.stop().await;
}

#[test]
fn pages_follow_each_other_and_miss_nothing() {
    let tags = || ["b", "C", "a", "B", "c1"].map(|tag| tag.parse().unwrap()).to_vec();
    let order = ["a", "B", "b", "C", "c1"];
    assert_eq!(page_of(&tags(), usize::MAX, None), (order.map(str::to_owned).to_vec(), false));
    let (mut seen, mut last) = (Vec::<String>::new(), None);
    loop {
        let (page, more) = page_of(&tags(), 2, last.as_deref());
        last = page.last().cloned();
        seen.extend(page);
        if !more {
            break;
        }
    }
    assert_eq!(seen, order);
    assert_eq!(page_of(&tags(), 0, None), (vec![], true));
    assert_eq!(page_of(&tags(), 5, Some("bb")).0, ["C", "c1"]);
    assert_eq!(page_of(&tags(), 5, Some("zz")), (vec![], false));
}
