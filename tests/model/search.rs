//! Every state that a model can reach, breadth first, so that a counterexample is a shortest one.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

/// Something that goes from state to state.
pub trait Model {
    type State: Clone + Eq + Hash;
    type Step: Clone + Debug;

    fn start(&self) -> Self::State;

    /// Everything that can happen next.
    fn next(&self, state: &Self::State) -> Vec<Next<Self>>;

    /// What must never be, if this state is such.
    fn wrong(&self, state: &Self::State) -> Option<String>;

    /// Whether all is done, so that nothing more need happen.
    fn is_done(&self, state: &Self::State) -> bool;
}

pub struct Next<M: Model + ?Sized> {
    pub step: M::Step,
    pub state: M::State,
    /// Something went wrong, which it need not have.
    pub is_fault: bool,
}

/// What is wrong, and the steps that lead there.
#[derive(Debug)]
pub struct Counterexample {
    pub what: String,
    pub steps: Vec<String>,
}

/// The number of states, if none is wrong, and if from each of them, without another fault, everything that can happen ends
/// where all is done.
pub fn search<M: Model>(model: &M) -> Result<usize, Counterexample> {
    let mut places = HashMap::from([(model.start(), 0)]);
    let mut states = vec![model.start()];
    let mut came_from: Vec<Option<(usize, M::Step)>> = vec![None];
    // The steps without a fault, backwards, and how many there are out of each state.
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut open: Vec<usize> = Vec::new();
    let counterexample = |came_from: &[Option<(usize, M::Step)>], what: String, mut place: usize| {
        let mut steps = Vec::new();
        while let Some((from, step)) = &came_from[place] {
            steps.insert(0, format!("{step:?}"));
            place = *from;
        }
        Counterexample { what, steps }
    };
    let mut place = 0;
    while place < states.len() {
        let state = states[place].clone();
        if let Some(what) = model.wrong(&state) {
            return Err(counterexample(&came_from, what, place));
        }
        let next = model.next(&state);
        open.push(next.iter().filter(|next| !next.is_fault).count());
        if open[place] == 0 && !model.is_done(&state) {
            return Err(counterexample(&came_from, "a dead end".into(), place));
        }
        for Next { step, state, is_fault } in next {
            let to = *places.entry(state).or_insert_with_key(|state| {
                states.push(state.clone());
                came_from.push(Some((place, step)));
                before.push(Vec::new());
                states.len() - 1
            });
            if !is_fault {
                before[to].push(place);
            }
        }
        place += 1;
    }
    // Take away, again and again, the states out of which every step leads to one that was taken away: what is left runs in circles.
    let mut ended: Vec<usize> = (0..states.len()).filter(|place| open[*place] == 0).collect();
    let mut count = 0;
    while let Some(place) = ended.pop() {
        count += 1;
        for &from in &before[place] {
            open[from] -= 1;
            if open[from] == 0 {
                ended.push(from);
            }
        }
    }
    match open.iter().position(|open| *open > 0) {
        Some(place) if count < states.len() => {
            Err(counterexample(&came_from, "it may go in circles from here".into(), place))
        }
        _ => Ok(states.len()),
    }
}
