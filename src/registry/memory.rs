//! Keeps the quirks of a registry between runs, for as long as it is the same server.

use futures_util::future::BoxFuture;

use super::Registry;
use super::quirks::Quirks;
use crate::clock;

/// Stores the quirks of registries. They are a hint: a failure to store them fails nothing.
pub(crate) trait MirrorMemory: Send + Sync {
    /// What was learned of a registry, as it was given, if its server says of itself what it said then.
    fn recall(&self, registry: String, server: String) -> BoxFuture<'_, Option<String>>;

    /// Keeps what was learned of a registry, and does not wait for the disk.
    fn remember(&self, registry: String, server: String, quirks: String);
}

impl Registry {
    fn server(&self) -> String {
        self.greeting().map(|greeting| greeting.server).unwrap_or_default()
    }

    /// Loads the quirks of earlier runs, once for all mirrors on a host. Each of them waits for that.
    pub(super) async fn recall(&self) {
        if let Some(memory) = self.0.memory.as_deref() {
            self.host().recall_once(self.recall_from(memory)).await;
        }
    }

    async fn recall_from(&self, memory: &dyn MirrorMemory) {
        let Some(text) = memory.recall(self.record_name(), self.server()).await else { return };
        if let Ok(quirks) = serde_json::from_str::<Quirks>(&text) {
            self.host().remembered(&quirks);
            let mut known = self.host().quirks();
            // Mirrors that remember nothing may be at work on the host already.
            if *known == Quirks::default() {
                *known = quirks.recalled(clock::unix_seconds());
            }
        }
    }

    /// Keeps what was learned, if it is news.
    pub(super) fn remember(&self) {
        let Some(memory) = self.0.memory.as_deref() else { return };
        let quirks = {
            let mut quirks = self.host().quirks();
            quirks.date_judgements(clock::unix_seconds());
            quirks.clone()
        };
        if self.host().remembered(&quirks)
            && let Ok(text) = serde_json::to_string(&quirks)
        {
            memory.remember(self.record_name(), self.server(), text);
        }
    }
}
