//! What the pool asks of its worker processes.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    LEAVING, Local, Opening, STILLBORN, Seat,
    desk::Item,
    member::{Member, Phase},
};
use crate::{
    crew::{Crew, Event, Outgoing, Refused, Room, Stall, Ticket, Why},
    error::Error,
    insights::WorkerInsights,
    trace::{Trace, note},
};

impl Crew for Local {
    type Opening = Opening;
    type Recruit = Member;

    fn size(&self) -> usize {
        self.settings.workers
    }

    fn room(&self) -> Option<Room> {
        let mut best: Option<(usize, Room)> = None;
        for (at, member) in self.members.iter().enumerate() {
            let (holds, most) = (member.holds(), self.allowance(member));
            if member.phase == Phase::Closing || member.ended || holds >= member.credit() || most == 0 {
                continue;
            }
            // One that is still starting comes behind those that are ready with as much to do.
            let rank = 2 * holds + usize::from(member.phase == Phase::Starting);
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, Room { member: at, idle: holds == 0, most }));
            }
            if rank == 0 {
                break;
            }
        }
        best.map(|(_, room)| room)
    }

    fn look(&self) -> (usize, Duration) {
        let idle = |member: &&Member| member.phase == Phase::Ready && !member.ended && member.holds() == 0;
        (self.members.iter().filter(idle).count(), self.members.iter().map(Member::worked).sum())
    }

    fn give(&mut self, room: Room, chunk: Outgoing<'_>) -> Result<(), Refused> {
        let member = &mut self.members[room.member];
        note!(
            self.trace,
            TRACE,
            Given { who: Arc::clone(&member.who), first: chunk.head.first, len: chunk.head.len }
        );
        member.give(chunk)
    }

    fn wake(&mut self) {
        self.members.iter_mut().for_each(Member::wake);
    }

    fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let mut partly = false;
        for at in 0..self.members.len() {
            match self.hear(at) {
                Some(Event::Partly) => partly = true,
                None if self.members[at].ended => return Some(self.bury(at)),
                None => {}
                event => return event,
            }
        }
        partly.then_some(Event::Partly)
    }

    fn heaviest(&self, weight: &dyn Fn(Ticket, u32, bool) -> u64) -> Option<Ticket> {
        self.members
            .iter()
            .flat_map(Member::spare)
            .map(|(ticket, unclaimed, begun)| (weight(ticket, unclaimed, begun), ticket))
            .filter(|(weight, _)| *weight > 0)
            .max()
            .map(|(_, ticket)| ticket)
    }

    fn take_back(&mut self, ticket: Ticket, keep: &dyn Fn(u32) -> u32) -> Range<u32> {
        self.members.iter_mut().find_map(|member| member.take_back(ticket, keep)).unwrap_or(0..0)
    }

    fn at_work(&self) -> Vec<(Item, Duration)> {
        self.members.iter().filter_map(Member::at_since).collect()
    }

    fn stalls(&mut self, now: Instant) -> Vec<Stall> {
        let members = self.members.iter_mut().enumerate();
        let stall = |(member, stall): (usize, (Vec<Ticket>, Duration))| Stall {
            member,
            held: stall.0,
            still: stall.1,
        };
        members.filter_map(|(at, member)| Some((at, member.stall(now)?))).map(stall).collect()
    }

    fn kill_stalled(&mut self, member: usize) {
        self.members[member].kill_stalled();
    }

    fn tell_to_stop(&mut self, item: Item) {
        if let Some(member) = self.members.iter().find(|member| member.is_at(item)) {
            member.stop(item);
        }
    }

    fn kill(&mut self, item: Item, why: Why) {
        if let Some(member) = self.members.iter_mut().find(|member| member.is_at(item)) {
            member.kill(item, why);
        }
    }

    fn is_short(&self, wanted: bool) -> bool {
        // Exit hooks may take their time; but of those that never end there are not more and more.
        let size = self.settings.workers;
        let leaving = self.members.iter().filter(|member| member.leaves()).count().min(size);
        (wanted || !self.settings.lazy())
            && !self.closed
            && self.members.len() + self.starting < size + leaving
    }

    fn opening(&mut self, wanted: bool, now: Instant) -> Option<Opening> {
        if !self.is_short(wanted) || self.pause.is_some_and(|pause| now < pause) {
            return None;
        }
        self.starting += 1;
        self.started += 1;
        let (settings, bell) = (Arc::clone(&self.settings), self.bell.clone());
        Some(Opening { number: self.started, settings, bell, store: self.store.clone() })
    }

    fn welcome(&mut self, recruit: Result<Member, Error>, now: Instant) {
        self.starting -= 1;
        let watched = recruit.and_then(|member| match self.alarm.watch(&member.child, member.number) {
            Ok(()) => Ok(member),
            Err(error) => {
                let _ = member.child.kill();
                Err(error.into())
            }
        });
        match watched {
            Ok(mut member) => {
                member.idle_since = now;
                if self.closed {
                    member.close(true);
                }
                note!(self.trace, DEBUG, Started { who: Arc::clone(&member.who) });
                self.sit_down(&mut member);
                self.members.push(member);
            }
            Err(error) => {
                self.stillborn += 1;
                if self.stillborn >= STILLBORN && self.members.is_empty() {
                    self.events.push_back(Event::Broken(error));
                }
                self.wait_a_little();
            }
        }
    }

    fn trace(&mut self) -> &mut Trace {
        &mut self.trace
    }

    fn insights(&self) -> Vec<WorkerInsights> {
        let mut all: Vec<_> = self
            .seats
            .iter()
            .map(|Seat { last, past }| WorkerInsights {
                name: last.name.clone(),
                pid: last.pid,
                ended: true,
                work: *past,
            })
            .collect();
        for member in &self.members {
            if let Some(seat) = all.get_mut(member.seat) {
                seat.work += member.work();
                seat.ended &= member.ended;
            }
        }
        all
    }

    fn tend(&mut self, now: Instant) -> Option<Instant> {
        let mut next = self.pause.filter(|pause| now < *pause);
        for member in self.members.iter().filter(|member| member.leaves() && !member.ended) {
            let due = member.idle_since + LEAVING;
            if due <= now {
                let _ = member.child.kill();
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        if let Some(idle) = self.settings.idle_timeout {
            for member in &mut self.members {
                let idles = member.phase == Phase::Ready && !member.ended && member.holds() == 0;
                let due = if idles {
                    member.idle_since.checked_add(idle)
                } else {
                    now.checked_add(idle.max(Duration::from_millis(1)))
                };
                if due.is_some_and(|due| due <= now) {
                    member.close(false);
                } else {
                    next = [next, due].into_iter().flatten().min();
                }
            }
        }
        next
    }

    fn close(&mut self, hurry: bool) {
        self.closed = true;
        for member in &mut self.members {
            member.close(hurry);
        }
    }

    fn end(&mut self, force: bool) {
        for member in &self.members {
            let _ = if force { member.child.kill() } else { member.child.terminate() };
        }
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.starting == 0
    }
}
