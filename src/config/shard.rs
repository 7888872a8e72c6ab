//! Which sites belong to one worker, by rendezvous hashing on their names. A site belongs to the same one of N workers whatever
//! the order of the file and the other sites in it. With one worker more, only the sites of the new worker move.

use crate::oci::Digest;

/// One of several workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// The worker `index` of `count`, counted from 0.
    ///
    /// # Errors
    /// There is no such worker.
    pub(crate) fn new(index: u32, count: u32) -> Result<Self, String> {
        match count.checked_sub(1) {
            None => Err("there must be one shard at least, and not 0".to_owned()),
            Some(last) if index > last => {
                Err(format!("shard {index} of {count}: shards are counted from 0 to {last}"))
            }
            Some(_) => Ok(Self { index, count }),
        }
    }

    pub(crate) fn index(self) -> u32 {
        self.index
    }

    pub(crate) fn count(self) -> u32 {
        self.count
    }

    /// Whether a site is this worker's.
    pub(crate) fn has(self, site: &str) -> bool {
        let weight = |shard: &u32| Digest::of(format!("{shard}/{site}").as_bytes()).hex();
        (0..self.count).max_by_key(weight) == Some(self.index)
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        (0..2000).map(|number| format!("site-{number}")).collect()
    }

    fn owners(count: u32) -> Vec<u32> {
        let owner = |name: &String| {
            let all: Vec<u32> =
                (0..count).filter(|index| Shard::new(*index, count).unwrap().has(name)).collect();
            let [owner] = all[..] else { panic!("{name} belongs to {all:?}") };
            owner
        };
        names().iter().map(owner).collect()
    }

    #[test]
    fn each_site_belongs_to_one_worker_and_all_have_about_as_many() {
        let owners = owners(4);
        for shard in 0..4 {
            let count = owners.iter().filter(|owner| **owner == shard).count();
            assert!((400..600).contains(&count), "{shard} has {count}");
        }
    }

    #[test]
    fn one_worker_more_moves_only_what_it_takes() {
        let (four, five) = (owners(4), owners(5));
        let moved: Vec<u32> = four.iter().zip(&five).filter(|(a, b)| a != b).map(|(_, b)| *b).collect();
        assert!(moved.iter().all(|owner| *owner == 4));
        assert!((300..500).contains(&moved.len()), "{}", moved.len());
    }

    #[test]
    fn a_worker_that_is_not_there_is_refused() {
        assert_eq!(Shard::new(3, 4).unwrap().to_string(), "3/4");
        assert!(Shard::new(4, 4).unwrap_err().contains("from 0 to 3"));
        assert!(Shard::new(0, 0).unwrap_err().contains("one shard at least"));
    }
}
