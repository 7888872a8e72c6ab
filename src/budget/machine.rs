//! How much memory a run may take when nobody says: a share of what the machine, or the control group it runs in, has.

use std::path::Path;

use super::MIN_MEMORY_BYTES;
use crate::small_file;

const MIB: u64 = 1 << 20;

/// The memory of a run when nobody says otherwise.
pub(crate) fn default_memory_bytes() -> u64 {
    share(machine_bytes(), group_limit_bytes(Path::new("/")))
}

/// A quarter of the smaller of the two, from 256 MiB to 1 GiB, and never over half of the group's limit.
fn share(machine: Option<u64>, group: Option<u64>) -> u64 {
    let least = [machine, group].into_iter().flatten().min();
    let quarter = least.map_or(256 * MIB, |bytes| (bytes / 4).clamp(256 * MIB, 1024 * MIB));
    quarter.min(group.map_or(u64::MAX, |limit| limit / 2)).max(MIN_MEMORY_BYTES)
}

fn machine_bytes() -> Option<u64> {
    let system = rustix::system::sysinfo();
    system.totalram.checked_mul(u64::from(system.mem_unit)).filter(|bytes| *bytes > 0)
}

/// The least limit of this process's control group and those above it, of either version of control groups.
fn group_limit_bytes(root: &Path) -> Option<u64> {
    let groups = small_file::read_kernel_text(&root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        // hierarchy:controllers:path
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let mount = root.join(mount);
        let group = mount.join(path.trim_start_matches('/'));
        // In a container the path may be that of the host: what is mounted is the group then.
        let above = group.ancestors().take_while(|folder| folder.starts_with(&mount));
        let text = |folder: &Path| small_file::read_kernel_text(&folder.join(file)).ok();
        let read = |folder: &Path| text(folder)?.trim().parse::<u64>().ok();
        above.filter_map(read).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GIB: u64 = 1024 * MIB;

    #[test]
    fn the_default_is_a_quarter_within_bounds_and_half_of_a_small_group() {
        assert_eq!(share(Some(2 * GIB), None), 512 * MIB);
        assert_eq!(share(Some(64 * GIB), None), GIB);
        assert_eq!(share(Some(GIB / 2), None), 256 * MIB);
        assert_eq!(share(Some(64 * GIB), Some(3 * GIB)), 768 * MIB);
        assert_eq!(share(Some(64 * GIB), Some(300 * MIB)), 150 * MIB);
        assert_eq!(share(Some(64 * GIB), Some(8 * MIB)), MIN_MEMORY_BYTES);
        assert_eq!(share(None, None), 256 * MIB);
        // The limit of a group that has none, in version 1.
        assert_eq!(share(Some(2 * GIB), Some(9_223_372_036_854_771_712)), 512 * MIB);
    }

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_least_limit_of_all_groups_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(group_limit_bytes(root), None);
        write(root, "proc/self/cgroup", "0::/system.slice/push.service\n");
        write(root, "sys/fs/cgroup/system.slice/memory.max", "1000000\n");
        write(root, "sys/fs/cgroup/system.slice/push.service/memory.max", "max\n");
        assert_eq!(group_limit_bytes(root), Some(1_000_000));
        write(root, "sys/fs/cgroup/system.slice/push.service/memory.max", "5000\n");
        assert_eq!(group_limit_bytes(root), Some(5000));
    }

    #[test]
    fn inside_a_container_of_version_one_the_mounted_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "proc/self/cgroup", "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n");
        write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n");
        assert_eq!(group_limit_bytes(root), Some(7000));
    }
}
