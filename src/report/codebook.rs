//! The codebooks of a run: the section of its report, and what to warn of.

use super::codes;
use super::history::{CodeCounts, History, of_head};
use super::html::Block;
use super::scale::precise;

/// What the use of codes on held-out data and on images that are trained on is called.
pub const HELD_OUT: &str = "usage";
pub const TRAINING: &str = "training_usage";
/// Dead codes of a codebook that are listed.
const DEAD_LISTED: usize = 64;
/// A codebook of which less than this share is used, of what the tokens allow, is warned of.
const LITTLE_USED: f64 = 0.5;

/// The measures of every codebook, how often its codes were used, and which never were.
pub fn section(history: &History) -> Vec<Block> {
    const MEASURES: [(&str, &str); 8] = [
        ("tokens", "tokens"),
        ("codes used", "unique"),
        ("share", "unique_share"),
        ("perplexity", "perplexity"),
        ("coverage", "coverage"),
        ("active share", "active_share"),
        ("dead", "dead"),
        ("commonest", "commonest_share"),
    ];
    let heads = history.codebooks(HELD_OUT);
    if heads.is_empty() {
        return vec![];
    }
    let mut rows = vec![];
    for (images, what) in [("held out", HELD_OUT), ("trained on", TRAINING)] {
        for head in 0..history.codebooks(what).len() {
            let value = |(_, measure): &(&str, &str)| {
                let value = history.last(&format!("{}.{measure}", of_head(what, head)));
                value.map_or(String::new(), |v| precise(v, 4))
            };
            let names = [format!("codebook {head}"), images.to_string()];
            rows.push(names.into_iter().chain(MEASURES.iter().map(value)).collect());
        }
    }
    let head = ["codebook", "images"].into_iter().chain(MEASURES.map(|(name, _)| name));
    let head = head.map(String::from).collect();
    let mut out = vec![Block::Table { head, rows }, Block::Charts(codes::charts(&heads))];
    let dead = heads.iter().enumerate().filter(|(_, head)| !head.dead.is_empty());
    let lists: Vec<String> = dead.map(|(i, head)| dead_codes(i, head)).collect();
    if !lists.is_empty() {
        let title = "Codes that no held-out token uses".into();
        out.push(Block::Folded { title, blocks: vec![Block::List(lists)] });
    }
    out
}

/// A sentence for every codebook of which much lies idle, counted against what the tokens could
/// reach.
pub fn little_used(history: &History) -> Vec<String> {
    let heads = history.codebooks(HELD_OUT);
    let one = |head: usize| {
        let name = of_head(HELD_OUT, head);
        let codes = heads[head].counts.len();
        let used = heads[head].counts.iter().filter(|&&c| c > 0).count();
        let share = history.last(&format!("{name}.coverage"));
        let which = if heads.len() > 1 { format!(" of codebook {head}") } else { String::new() };
        (share.unwrap_or(used as f64 / codes as f64) < LITTLE_USED)
            .then(|| format!("Only {used} of {codes} codes{which} are used on held-out data"))
    };
    (0..heads.len()).filter_map(one).collect()
}

/// The codes of a head that were never used, by number.
fn dead_codes(number: usize, head: &CodeCounts) -> String {
    let all = head.counts.iter().filter(|&&c| c == 0).count();
    let listed: Vec<String> = head.dead.iter().take(DEAD_LISTED).map(ToString::to_string).collect();
    let more = match all.saturating_sub(listed.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("codebook {number}: {}{more}", listed.join(", "))
}
