//! Searches every state that a model can reach, breadth first. So a counterexample has as few steps as possible.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

/// A system that goes from state to state in steps.
pub trait Model {
    type State: Clone + Eq + Hash;
    type Step: Clone + Debug;

    fn start(&self) -> Self::State;

    /// Every step that is possible in this state.
    fn next(&self, state: &Self::State) -> Vec<Next<Self>>;

    /// What is wrong with this state, if it must never occur.
    fn wrong(&self, state: &Self::State) -> Option<String>;

    /// Whether all work is done, so that no further step is needed.
    fn is_done(&self, state: &Self::State) -> bool;
}

pub struct Next<M: Model + ?Sized> {
    pub step: M::Step,
    pub state: M::State,
    /// Whether the step is a fault. A fault may happen, but nothing may depend on it.
    pub is_fault: bool,
}

/// A model in which faults of certain kinds can happen, up to a total number.
pub trait Faulty: Model {
    type Fault: Copy;

    /// Brings a state into its canonical form, so that states with the same meaning are equal.
    fn canonicalize(state: &mut Self::State);

    /// Whether this fault can happen in this state.
    fn can_fail(&self, fault: Self::Fault, state: &Self::State) -> bool;

    /// Counts a fault that happened.
    fn count_fault(&self, fault: Self::Fault, state: &mut Self::State);
}

/// Collects the steps from one state.
pub struct Steps<'a, M: Faulty> {
    pub model: &'a M,
    pub state: &'a M::State,
    pub found: Vec<Next<M>>,
}

impl<'a, M: Faulty> Steps<'a, M> {
    pub fn new(model: &'a M, state: &'a M::State) -> Self {
        Self { model, state, found: Vec::new() }
    }

    /// Adds a step that changes the state.
    pub fn step(&mut self, step: M::Step, change: impl FnOnce(&mut M::State)) {
        self.add(step, false, change);
    }

    /// Adds a step that is a fault, if this fault can happen.
    pub fn fault(&mut self, fault: M::Fault, step: M::Step, change: impl FnOnce(&mut M::State)) {
        let model = self.model;
        if model.can_fail(fault, self.state) {
            self.add(step, true, |state| {
                model.count_fault(fault, state);
                change(state);
            });
        }
    }

    fn add(&mut self, step: M::Step, is_fault: bool, change: impl FnOnce(&mut M::State)) {
        let mut state = self.state.clone();
        change(&mut state);
        M::canonicalize(&mut state);
        self.found.push(Next { step, state, is_fault });
    }
}

/// What is wrong with a state, and the steps from the start to it.
#[derive(Debug)]
pub struct Counterexample {
    pub what: String,
    pub steps: Vec<String>,
}

/// Returns the number of states, if none of them is wrong, and if every sequence of steps without another fault, from any of them, ends in
/// a state in which all work is done.
pub fn search<M: Model>(model: &M) -> Result<usize, Counterexample> {
    let mut places = HashMap::from([(model.start(), 0)]);
    let mut states = vec![model.start()];
    let mut came_from: Vec<Option<(usize, M::Step)>> = vec![None];
    // For each state: the states from which a step without a fault leads to it, and the number of such steps that leave it.
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
    // Repeatedly remove the states whose steps all lead to removed states. From those that are left, steps may go in circles.
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
            Err(counterexample(&came_from, "from here it may run in circles".into(), place))
        }
        _ => Ok(states.len()),
    }
}
