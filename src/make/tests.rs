//! What is told while a bundle is written.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Contents, OutputFile, write};
use crate::bundle::{Input, Opener, Resources};
use crate::compress::Method;
use crate::locks::Mutex;
use crate::oci::Digest;
use crate::report::event::WorkStep;
use crate::report::{Event, Listener, Listeners};
use crate::source::IoMode;
use crate::state::State;

const LAYER_BYTES: usize = 3 << 20;

/// What `docker save` wrote before Docker 25: one image of one plain layer.
fn docker_archive() -> Vec<u8> {
    let layer = vec![7; LAYER_BYTES];
    let rootfs = serde_json::json!({"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]});
    let config = serde_json::json!({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).to_string();
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest =
        serde_json::json!([{"Config": name, "RepoTags": ["images.example/a:1"], "Layers": ["a/layer.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in [
        (name.as_str(), config.as_bytes()),
        ("a/layer.tar", &layer[..]),
        ("manifest.json", manifest.to_string().as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Keeps how far each step has come.
#[derive(Default)]
struct Heard(Mutex<Vec<(WorkStep, u64, Option<u64>)>>);

impl Listener for Heard {
    fn hear(&self, event: &Event) {
        if let Event::Advanced { step, bytes, of } = event {
            self.0.lock().push((*step, *bytes, *of));
        }
    }
}

#[test]
fn each_step_is_told_to_its_end_and_never_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar");
    std::fs::write(&path, docker_archive()).unwrap();
    let resources = Resources {
        memory_bytes: 64 << 20,
        decode_memory_bytes: 64 << 20,
        spool_folder: folder.path().to_owned(),
        spool_limit_bytes: u64::MAX,
        threads: 2,
        io: IoMode::Auto,
    };
    let opener = Opener::new(resources, State::none()).unwrap();
    let (heard, cancel) = (Arc::new(Heard::default()), CancellationToken::new());
    let listeners = Listeners::new(vec![Arc::clone(&heard) as Arc<dyn Listener>]);
    let bundle = opener.open(&[Input::Path(path)], &listeners, &()).unwrap();
    let contents = Contents::of(&bundle, &opener, Method::Gzip, &cancel, &listeners).unwrap();
    let output = OutputFile { path: folder.path().join("out.tar.zst"), split: None };
    write(&contents, &output, &opener, &cancel, &listeners, &|| Ok(())).unwrap();
    let heard = heard.0.lock().clone();
    let of_step = |step: WorkStep| -> Vec<(u64, Option<u64>)> {
        heard.iter().filter(|(told, ..)| *told == step).map(|(_, bytes, of)| (*bytes, *of)).collect()
    };
    let (compressed, written) = (of_step(WorkStep::Compress), of_step(WorkStep::Write));
    assert_eq!(heard.len(), compressed.len() + written.len(), "{heard:?}");
    assert_eq!(compressed.last(), Some(&(LAYER_BYTES as u64, Some(LAYER_BYTES as u64))));
    assert!(written.last().is_some_and(|(bytes, of)| Some(*bytes) == *of), "{written:?}");
    for told in [compressed, written] {
        assert!(told.is_sorted_by_key(|(bytes, _)| *bytes), "{told:?}");
    }
}
