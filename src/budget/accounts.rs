//! The arithmetic of the disk and of memory for layers. Pure.
//!
//! Three things hold at every moment. What layers take of memory, and what layers and spools take of the disk, is within
//! the limits. What was promised to images is there, whatever spools do. And what keeps to its promise gets it.
//!
//! Spilled parts take disk that nobody else needs now. They have no claim to it: whoever comes later gets what there is
//! without them, and [`BudgetAccounts::excess`] says how much of them has to go.

#[derive(Debug)]
pub(super) struct BudgetAccounts {
    memory: u64,
    disk: u64,
    layers_on_disk: u64,
    /// Promised to images, and not taken by their layers yet.
    promised: u64,
    in_memory: u64,
    on_disk: u64,
    spooled: u64,
    spilled: u64,
    spill_limit: u64,
    largest_layer: u64,
}

impl BudgetAccounts {
    pub(super) fn new(memory: u64, disk: u64, layers_on_disk: u64, spill_limit: u64) -> Self {
        let layers_on_disk = layers_on_disk.min(disk);
        let (promised, in_memory, on_disk, spooled, spilled, largest_layer) = (0, 0, 0, 0, 0, 0);
        Self {
            memory,
            disk,
            layers_on_disk,
            promised,
            in_memory,
            on_disk,
            spooled,
            spilled,
            spill_limit,
            largest_layer,
        }
    }

    pub(super) fn expect_layer(&mut self, bytes: u64) {
        self.largest_layer = self.largest_layer.max(bytes);
    }

    /// What all layers together can take while spools have what they have.
    pub(super) fn layer_room(&self) -> u64 {
        self.memory.saturating_add(self.layers_on_disk.min(self.disk - self.spooled))
    }

    /// What is promised and taken.
    fn held(&self) -> u64 {
        self.promised + self.in_memory + self.on_disk
    }

    /// Promises `bytes` to an image, at most all that there can be; `None` while others hold it.
    pub(super) fn promise(&mut self, bytes: u64) -> Option<u64> {
        let bytes = bytes.min(self.layer_room());
        if self.held() + bytes > self.layer_room() {
            return None;
        }
        self.promised += bytes;
        Some(bytes)
    }

    /// What was promised and taken was given back, and is promised still.
    pub(super) fn promise_again(&mut self, bytes: u64) {
        self.promised += bytes;
    }

    /// What was promised is not needed.
    pub(super) fn take_back(&mut self, promised: u64) {
        self.promised -= promised;
    }

    /// Reserves `bytes` for a layer, of which `promised` were promised; memory first. Returns how much of it is memory.
    pub(super) fn take(&mut self, bytes: u64, promised: u64) -> Option<u64> {
        if self.held() + (bytes - promised) > self.layer_room() {
            return None;
        }
        let in_memory = bytes.min(self.memory - self.in_memory);
        self.promised -= promised;
        self.in_memory += in_memory;
        self.on_disk += bytes - in_memory;
        Some(in_memory)
    }

    pub(super) fn give_back(&mut self, in_memory: u64, on_disk: u64) {
        self.in_memory -= in_memory;
        self.on_disk -= on_disk;
    }

    /// What spools leave to layers: what is promised or taken, and room for the largest, up to half of the disk.
    fn kept(&self) -> u64 {
        let largest =
            self.largest_layer.saturating_sub(self.memory).min(self.disk / 2).min(self.layers_on_disk);
        self.on_disk.max(self.held().saturating_sub(self.memory)).max(largest)
    }

    /// Reserves `bytes` for a spool.
    ///
    /// # Errors
    /// The limit that it would take.
    pub(super) fn spool(&mut self, bytes: u64) -> Result<(), u64> {
        let needed = self.spooled.saturating_add(bytes).saturating_add(self.kept());
        if needed > self.disk {
            return Err(needed);
        }
        self.spooled += bytes;
        Ok(())
    }

    pub(super) fn unspool(&mut self, bytes: u64) {
        self.spooled -= bytes;
    }

    /// Reserves `bytes` for a decoded part, if nothing else needs them now.
    pub(super) fn spill(&mut self, bytes: u64) -> bool {
        let spilled = self.spilled.saturating_add(bytes);
        let all = self.spooled.saturating_add(self.kept()).saturating_add(spilled);
        let fits = all <= self.disk && spilled <= self.spill_limit;
        if fits {
            self.spilled = spilled;
        }
        fits
    }

    pub(super) fn unspill(&mut self, bytes: u64) {
        self.spilled -= bytes;
    }

    /// How much of what is spilled has to go.
    pub(super) fn excess(&self) -> u64 {
        let others = self.spooled.saturating_add(self.kept());
        others.saturating_add(self.spilled).saturating_sub(self.disk).min(self.spilled)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Promise(u64),
        /// A layer of an image takes more, of what was promised as far as there is any left.
        Take(usize, u64),
        /// Making the layers of an image failed, and they will be made again.
        Fail(usize),
        Settle(usize),
        Drop(usize),
        Spool(u64),
        Unspool(u64),
        Spill(u64),
        Expect(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_u64..80).prop_map(Step::Promise),
            (0_usize..4, 0_u64..30).prop_map(|(image, bytes)| Step::Take(image, bytes)),
            (0_usize..4).prop_map(Step::Fail),
            (0_usize..4).prop_map(Step::Settle),
            (0_usize..4).prop_map(Step::Drop),
            (0_u64..60).prop_map(Step::Spool),
            (0_u64..60).prop_map(Step::Unspool),
            (0_u64..60).prop_map(Step::Spill),
            (0_u64..80).prop_map(Step::Expect),
        ];
        prop::collection::vec(step, 0..60)
    }

    /// What an image was promised and has not taken, and what its layers took.
    #[derive(Default)]
    struct Image {
        promised: u64,
        in_memory: u64,
        on_disk: u64,
    }

    proptest! {
        #[test]
        fn limits_and_promises_hold_whatever_comes(steps in steps(), memory in 0_u64..50, disk in 0_u64..100, of_it in 0_u64..120, spill_limit in 0_u64..120) {
            let mut accounts = BudgetAccounts::new(memory, disk, of_it, spill_limit);
            let mut images: Vec<Image> = Vec::new();
            for step in steps {
                match step {
                    Step::Promise(bytes) => {
                        let promised = accounts.promise(bytes);
                        prop_assert!(promised.is_some() || !images.is_empty(), "one always fits");
                        images.extend(promised.map(|promised| Image { promised, ..Image::default() }));
                    }
                    Step::Take(at, bytes) => if let Some(image) = images.get_mut(at) {
                        let promised = bytes.min(image.promised);
                        let in_memory = accounts.take(bytes, promised);
                        prop_assert!(in_memory.is_some() || bytes > promised, "a promise is broken: {accounts:?}");
                        if let Some(in_memory) = in_memory {
                            image.promised -= promised;
                            image.in_memory += in_memory;
                            image.on_disk += bytes - in_memory;
                        }
                    },
                    Step::Fail(at) => if let Some(image) = images.get_mut(at) {
                        let (in_memory, on_disk) = (std::mem::take(&mut image.in_memory), std::mem::take(&mut image.on_disk));
                        accounts.give_back(in_memory, on_disk);
                        accounts.promise_again(in_memory + on_disk);
                        image.promised += in_memory + on_disk;
                    },
                    Step::Settle(at) => if let Some(image) = images.get_mut(at) {
                        accounts.take_back(std::mem::take(&mut image.promised));
                    },
                    Step::Drop(at) => if at < images.len() {
                        let image = images.remove(at);
                        accounts.take_back(image.promised);
                        accounts.give_back(image.in_memory, image.on_disk);
                    },
                    Step::Spool(bytes) => {
                        let refused = accounts.spool(bytes);
                        prop_assert!(refused.is_ok() || refused.is_err_and(|needed| needed > disk));
                    }
                    Step::Unspool(bytes) => accounts.unspool(bytes.min(accounts.spooled)),
                    Step::Spill(bytes) => if accounts.spill(bytes) {
                        prop_assert_eq!(accounts.excess(), 0, "what is spilled takes from nobody");
                    },
                    Step::Expect(bytes) => accounts.expect_layer(bytes),
                }
                accounts.unspill(accounts.excess());
                prop_assert!(accounts.in_memory <= memory);
                prop_assert!(accounts.spilled <= spill_limit);
                prop_assert!(accounts.spooled + accounts.on_disk + accounts.spilled <= disk, "{accounts:?}");
                prop_assert!(accounts.on_disk <= of_it);
            }
            for image in images.drain(..) {
                accounts.take_back(image.promised);
                accounts.give_back(image.in_memory, image.on_disk);
            }
            prop_assert_eq!((accounts.promised, accounts.in_memory, accounts.on_disk), (0, 0, 0));
        }
    }

    #[test]
    fn spools_leave_room_for_the_largest_layer() {
        let mut accounts = BudgetAccounts::new(10, 100, 100, 0);
        accounts.expect_layer(40);
        assert_eq!(accounts.spool(71), Err(101));
        assert_eq!(accounts.spool(70), Ok(()));
        assert_eq!(accounts.promise(1000), Some(40));
    }

    #[test]
    fn spilled_parts_go_for_spools_and_layers() {
        let mut accounts = BudgetAccounts::new(0, 100, 100, 60);
        assert!(accounts.spill(60) && !accounts.spill(1), "the limit of spilled parts");
        assert_eq!((accounts.spool(70), accounts.excess()), (Ok(()), 30));
        accounts.unspill(30);
        assert_eq!((accounts.promise(1000), accounts.excess()), (Some(30), 30));
    }
}
