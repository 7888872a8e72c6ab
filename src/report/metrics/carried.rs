//! Series of sites that a run was not about: what the file of an earlier run says of them stays. Pure.

/// `rendered` with the series of `earlier` whose site is one of `others`. Each comes behind those of its metric, because a reader
/// wants them together; a metric that is not rendered is left out.
pub(crate) fn with_other_sites(rendered: &str, earlier: &str, others: impl Fn(&str) -> bool) -> String {
    let kept: Vec<&str> = earlier.lines().filter(|line| site_of(line).is_some_and(&others)).collect();
    if kept.is_empty() {
        return rendered.to_owned();
    }
    let mut out = String::with_capacity(rendered.len() + earlier.len());
    let mut family = None;
    let end = |out: &mut String, family: &mut Option<&str>| {
        let Some(name) = family.take() else { return };
        for line in kept.iter().filter(|line| line.split('{').next() == Some(name)) {
            out.push_str(line);
            out.push('\n');
        }
    };
    for line in rendered.lines() {
        if line.is_empty() || line.starts_with("# HELP ") {
            end(&mut out, &mut family);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            end(&mut out, &mut family);
            family = rest.split(' ').next();
        }
        out.push_str(line);
        out.push('\n');
    }
    end(&mut out, &mut family);
    out
}

/// The value of the label `site`. Names of sites have nothing that would be escaped.
fn site_of(line: &str) -> Option<&str> {
    let (_, labels) = line.split_once('{').filter(|_| !line.starts_with('#'))?;
    let (_, value) = labels.split_once("site=\"")?;
    value.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_other_sites_stays_beside_what_is_said_anew() {
        let rendered = "# HELP a x\n# TYPE a gauge\na{run=\"r\",site=\"one\"} 1\n\n# HELP b x\n# TYPE b gauge\nb{run=\"r\"} 0\n";
        let earlier = "# TYPE a gauge\na{run=\"r\",site=\"one\"} 0\na{run=\"r\",site=\"two\"} 0\na{run=\"r\",site=\"gone\"} 0\n\
                       # TYPE b gauge\nb{run=\"r\"} 3\n# TYPE c gauge\nc{site=\"two\"} 7\n";
        let merged = with_other_sites(rendered, earlier, |site| site == "two");
        let wanted = "# HELP a x\n# TYPE a gauge\na{run=\"r\",site=\"one\"} 1\na{run=\"r\",site=\"two\"} 0\n\n\
                      # HELP b x\n# TYPE b gauge\nb{run=\"r\"} 0\n";
        assert_eq!(merged, wanted);
        assert_eq!(with_other_sites(rendered, &merged, |site| site == "two"), wanted, "and a third time");
        assert_eq!(with_other_sites(rendered, "", |_| true), rendered);
    }
}
