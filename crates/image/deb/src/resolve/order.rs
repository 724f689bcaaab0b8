//! What is configured before what: needs first, circles broken where only `Depends` closes them.

/// One package needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub from: usize,
    pub to: usize,
    /// Whether the other has to be configured before this one is even unpacked.
    pub pre: bool,
}

/// The numbers of packages, in order. The same packages give the same order, however they were
/// found.
pub(super) fn order<'n>(
    count: usize,
    edges: &[Edge],
    name: impl Fn(usize) -> &'n str,
) -> Vec<usize> {
    let mut by_name: Vec<usize> = (0..count).collect();
    by_name.sort_by_key(|n| name(*n));
    let mut rank = vec![0; count];
    for (place, n) in by_name.iter().enumerate() {
        rank[*n] = place;
    }
    let mut order = Vec::with_capacity(count);
    for circle in circles(&by_name, &targets(count, edges, &rank, |_| true)) {
        let own: Vec<Edge> = edges
            .iter()
            .filter(|e| circle.contains(&e.from) && circle.contains(&e.to))
            .copied()
            .collect();
        let mut within = circle;
        within.sort_by_key(|n| rank[*n]);
        // In a circle only what is needed before unpacking counts; a circle of these cannot be
        // kept at all, and stays in the order of names.
        let pre = targets(count, &own, &rank, |edge| edge.pre);
        for mut inner in circles(&within, &pre) {
            inner.sort_by_key(|n| rank[*n]);
            order.extend(inner);
        }
    }
    order
}

fn targets(
    count: usize,
    edges: &[Edge],
    rank: &[usize],
    is_meant: impl Fn(&Edge) -> bool,
) -> Vec<Vec<usize>> {
    let mut targets = vec![Vec::new(); count];
    for edge in edges.iter().filter(|edge| is_meant(edge)) {
        targets[edge.from].push(edge.to);
    }
    for targets in &mut targets {
        targets.sort_by_key(|n| rank[*n]);
        targets.dedup();
    }
    targets
}

/// Strongly connected components, what they reach before themselves (Tarjan's algorithm, with a
/// stack of its own: a chain may be as long as there are packages).
fn circles(nodes: &[usize], targets: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let mut index = vec![UNSEEN; targets.len()];
    let mut low = vec![0; targets.len()];
    let mut on_path = vec![false; targets.len()];
    let mut path = Vec::new();
    let mut found = Vec::new();
    let mut next = 0;
    for root in nodes {
        if index[*root] != UNSEEN {
            continue;
        }
        let mut calls = vec![(*root, 0)];
        while let Some((node, edge)) = calls.pop() {
            if edge == 0 {
                (index[node], low[node]) = (next, next);
                next += 1;
                path.push(node);
                on_path[node] = true;
            }
            if let Some(target) = targets[node].get(edge) {
                calls.push((node, edge + 1));
                match (index[*target], on_path[*target]) {
                    (UNSEEN, _) => calls.push((*target, 0)),
                    (seen, true) => low[node] = low[node].min(seen),
                    _ => {}
                }
                continue;
            }
            if let Some((caller, _)) = calls.last() {
                low[*caller] = low[*caller].min(low[node]);
            }
            if low[node] == index[node] {
                let start = path.iter().rposition(|n| *n == node).unwrap_or_default();
                let circle = path.split_off(start);
                for n in &circle {
                    on_path[*n] = false;
                }
                found.push(circle);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edges as `ab` (a needs b) and `a!b` (a pre-depends on b).
    fn ordered(count: usize, edges: &[&str]) -> String {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        let number = |c: char| NAMES.iter().position(|name| name.starts_with(c)).unwrap();
        let edges: Vec<Edge> = edges
            .iter()
            .map(|text| {
                let mut chars = text.chars();
                let (from, to) = (chars.next().unwrap(), chars.next_back().unwrap());
                Edge { from: number(from), to: number(to), pre: text.contains('!') }
            })
            .collect();
        order(count, &edges, |n| NAMES[n]).into_iter().map(|n| NAMES[n]).collect()
    }

    #[test]
    fn needs_come_first() {
        let cases: &[(usize, &[&str], &str)] = &[
            (3, &[], "abc"),
            (3, &["ab", "bc"], "cba"),
            (3, &["ac", "bc"], "cab"),
            (2, &["ab", "ba"], "ab"),
            (2, &["a!b", "ba"], "ba"),
            (2, &["a!b", "b!a"], "ab"),
            (4, &["ab", "bc", "cb", "cd"], "dbca"),
            (4, &["ab", "b!c", "cb", "cd", "aa"], "dcba"),
            (6, &["af", "fe", "ed", "dc", "cb"], "bcdefa"),
        ];
        for (count, edges, want) in cases {
            assert_eq!(ordered(*count, edges), *want, "{edges:?}");
        }
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let edges: Vec<Edge> =
            (1..20_000).map(|n| Edge { from: n - 1, to: n, pre: false }).collect();
        let circles = circles(
            &(0..20_000).collect::<Vec<_>>(),
            &targets(20_000, &edges, &(0..20_000).collect::<Vec<_>>(), |_| true),
        );
        assert_eq!(circles.len(), 20_000);
    }
}
