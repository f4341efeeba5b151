//! The whole of the traffic, and parts of it.

use std::ops::Range;
use std::time::Duration;

use crate::{Arrival, Request};

/// Exchanges in the order of their roots' arrival; an exchange comes after its parent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workload {
    requests: Vec<Request>,
}

/// An exchange waits for itself or for one that comes later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("request {request} waits for request {parent}, which does not come before it")]
pub struct OrderError {
    /// Index of the one that waits.
    pub request: usize,
    /// Index of the one it waits for.
    pub parent: usize,
}

impl Workload {
    /// A workload of these requests, in any order as long as parents come before their children.
    ///
    /// # Errors
    /// If one does not.
    pub fn new(requests: Vec<Request>) -> Result<Self, OrderError> {
        let roots = root_arrivals(&requests)?;
        let mut order: Vec<usize> = (0..requests.len()).collect();
        // Stable, and a child has its root's key: it stays behind its parent.
        order.sort_by_key(|&index| roots[index]);
        Ok(Self::pick(requests, &order))
    }

    /// The requests at these indices, in that order; parents must be among them, and before.
    fn pick(requests: Vec<Request>, order: &[usize]) -> Self {
        let mut moved = vec![usize::MAX; requests.len()];
        for (new, &old) in order.iter().enumerate() {
            moved[old] = new;
        }
        let mut old: Vec<Option<Request>> = requests.into_iter().map(Some).collect();
        let picked = order.iter().filter_map(|&index| {
            let mut request = old[index].take()?;
            if let Arrival::After { parent, .. } = &mut request.arrival {
                *parent = moved[*parent];
            }
            Some(request)
        });
        Self { requests: picked.collect() }
    }

    /// All of them, in order.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Those with a time of their own, in the order of it: (offset, index).
    pub fn roots(&self) -> impl Iterator<Item = (Duration, usize)> {
        self.requests.iter().enumerate().filter_map(|(index, request)| match request.arrival {
            Arrival::At(offset) => Some((offset, index)),
            Arrival::After { .. } => None,
        })
    }

    /// For each request, the indices of those that wait for it.
    #[must_use]
    pub fn children(&self) -> Vec<Vec<usize>> {
        let mut children = vec![Vec::new(); self.requests.len()];
        for (index, request) in self.requests.iter().enumerate() {
            if let Arrival::After { parent, .. } = request.arrival {
                children[parent].push(index);
            }
        }
        children
    }

    /// What starts within a range of offsets, with everything that follows from it; the range's
    /// start becomes offset zero.
    #[must_use]
    pub fn slice(&self, range: Range<Duration>) -> Self {
        let roots = root_arrivals(&self.requests).expect("checked when it was made");
        let inside: Vec<usize> =
            (0..roots.len()).filter(|&index| range.contains(&roots[index])).collect();
        let mut part = Self::pick(self.requests.clone(), &inside);
        for request in &mut part.requests {
            if let Arrival::At(offset) = &mut request.arrival {
                *offset = offset.saturating_sub(range.start);
            }
        }
        part
    }

    /// The same requests, so many times as fast: offsets and think times are divided.
    /// A factor of zero counts as one.
    #[must_use]
    pub fn faster(&self, factor: u32) -> Self {
        let factor = factor.max(1);
        let mut scaled = self.clone();
        for request in &mut scaled.requests {
            match &mut request.arrival {
                Arrival::At(time) | Arrival::After { think: time, .. } => *time /= factor,
            }
        }
        scaled
    }
}

/// When the root of each request's chain arrives.
fn root_arrivals(requests: &[Request]) -> Result<Vec<Duration>, OrderError> {
    let mut roots: Vec<Duration> = Vec::with_capacity(requests.len());
    for (index, request) in requests.iter().enumerate() {
        roots.push(match request.arrival {
            Arrival::At(offset) => offset,
            Arrival::After { parent, .. } => {
                *roots.get(parent).ok_or(OrderError { request: index, parent })?
            }
        });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Api, Labels, Shape};

    fn request(name: &str, arrival: Arrival) -> Request {
        Request {
            arrival,
            api: Api::OpenAiChat,
            stream: false,
            model: name.to_owned(),
            labels: Labels::default(),
            shape: Shape::default(),
            fault: None,
            retry: 0,
        }
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn small() -> Workload {
        Workload::new(vec![
            request("late", Arrival::At(seconds(20))),
            request("late-child", Arrival::After { parent: 0, think: seconds(4) }),
            request("early", Arrival::At(seconds(10))),
            request("late-grandchild", Arrival::After { parent: 1, think: seconds(6) }),
        ])
        .unwrap()
    }

    fn names(workload: &Workload) -> Vec<&str> {
        workload.requests().iter().map(|request| request.model.as_str()).collect()
    }

    #[test]
    fn requests_are_ordered_by_root_and_children_keep_their_parents() {
        let workload = small();
        assert_eq!(names(&workload), ["early", "late", "late-child", "late-grandchild"]);
        assert_eq!(workload.children(), [vec![], vec![2], vec![3], vec![]]);
        assert_eq!(workload.roots().collect::<Vec<_>>(), [(seconds(10), 0), (seconds(20), 1)]);
    }

    #[test]
    fn a_slice_keeps_chains_whole_and_starts_at_zero() {
        let part = small().slice(seconds(15)..seconds(30));
        assert_eq!(names(&part), ["late", "late-child", "late-grandchild"]);
        assert_eq!(part.requests()[0].arrival, Arrival::At(seconds(5)));
        assert_eq!(part.children(), [vec![1], vec![2], vec![]]);
        assert!(small().slice(seconds(30)..seconds(40)).requests().is_empty());
    }

    #[test]
    fn faster_divides_every_time() {
        let fast = small().faster(2);
        assert_eq!(fast.requests()[0].arrival, Arrival::At(seconds(5)));
        assert_eq!(fast.requests()[2].arrival, Arrival::After { parent: 1, think: seconds(2) });
    }

    #[test]
    fn waiting_for_what_comes_later_is_an_error() {
        let own = request("x", Arrival::After { parent: 0, think: seconds(1) });
        assert_eq!(Workload::new(vec![own]), Err(OrderError { request: 0, parent: 0 }));
    }

    proptest::proptest! {
        #[test]
        fn slices_that_cover_the_hour_hold_every_request_once(cut in 0_u64..3600) {
            let whole = crate::demo(4);
            let parts =
                [whole.slice(seconds(0)..seconds(cut)), whole.slice(seconds(cut)..seconds(3600))];
            let held: usize = parts.iter().map(|part| part.requests().len()).sum();
            proptest::prop_assert_eq!(held, whole.requests().len());
            for part in &parts {
                proptest::prop_assert_eq!(&Workload::new(part.requests.clone()), &Ok(part.clone()));
            }
        }
    }
}
