//! A process's part in keeping a name: a descriptor of its socket, and a thread that answers to it.

use std::{
    io::{PipeReader, PipeWriter},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::JoinHandle,
    time::Duration,
};

use mp_core::{
    fds,
    os::{
        event::{PollFd, PollFlags, poll},
        fd::{AsFd, OwnedFd},
        io::Errno,
        net::{SendFlags, SocketFlags, accept_with, sockopt::socket_peercred},
        process::geteuid,
    },
    shared::Region,
    transfer::{self, Fd},
};

use super::Parts;

/// This process's part in keeping and answering to a name; one per block, however many handles there are.
pub(super) struct Host {
    shared: Arc<Shared>,
    /// The process whose thread it is: one that was forked from it has none, and keeps the name until it ends.
    pid: u32,
    /// Closed to end the thread.
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    region: Region,
    name: String,
    /// `None` when the name was taken away.
    listener: Mutex<Option<Arc<OwnedFd>>>,
}

static HOSTS: Mutex<Vec<Weak<Host>>> = Mutex::new(Vec::new());

impl Host {
    pub(super) fn of(region: Region, name: &str, listener: Arc<OwnedFd>) -> std::io::Result<Arc<Self>> {
        let mut hosts = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|host| host.strong_count() > 0);
        let pid = std::process::id();
        if let Some(host) = hosts
            .iter()
            .filter_map(Weak::upgrade)
            .find(|host| host.pid == pid && host.shared.region.same_as(&region))
        {
            return Ok(host);
        }
        let shared = Arc::new(Shared {
            region,
            name: name.to_owned(),
            listener: Mutex::new(Some(Arc::clone(&listener))),
        });
        let (ended, end) = std::io::pipe()?;
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("mp-memory".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || serving.serve(listener, &ended))?;
        let host = Arc::new(Self { shared, pid, end: Some(end), thread: Some(thread) });
        hosts.push(Arc::downgrade(&host));
        Ok(host)
    }
}

impl Host {
    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    /// Closes this process's end of the name, for one that shuts it.
    pub(super) fn take_listener(&self) -> Option<Arc<OwnedFd>> {
        self.shared.listener().take()
    }

    /// What another user needs to keep the name; nothing if it was taken away.
    pub(super) fn name_and_listener(&self) -> Option<(String, Fd<Arc<OwnedFd>>)> {
        let listener = self.shared.listener().clone();
        listener.map(|listener| (self.shared.name.clone(), Fd(listener)))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let thread = self.thread.take();
        if self.pid != std::process::id() {
            return std::mem::forget(thread);
        }
        drop(self.end.take());
        // It sleeps for this, and whatever else it does is done in moments. Afterwards the name is free.
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn listener(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers whoever connects, until this process has no handle any more or the name was taken away.
    fn serve(&self, listener: Arc<OwnedFd>, ended: &PipeReader) {
        loop {
            let mut ready = [PollFd::new(&*listener, PollFlags::IN), PollFd::new(ended, PollFlags::empty())];
            if !matches!(poll(&mut ready, None), Ok(_) | Err(Errno::INTR)) {
                break;
            }
            let is_over = |fd: &PollFd<'_>| {
                fd.revents().contains(PollFlags::HUP) || fd.revents().contains(PollFlags::ERR)
            };
            if ready.iter().any(is_over) {
                break;
            }
            if ready[0].revents().contains(PollFlags::IN) && !self.answer(&listener) {
                // No descriptors to spare: not at once again.
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.listener().take();
    }

    /// Answers one that has connected; false if this process cannot do so now.
    fn answer(&self, listener: &Arc<OwnedFd>) -> bool {
        // Another user may have been faster.
        let socket = match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(errno) => return errno == Errno::AGAIN || errno == Errno::INTR,
        };
        if !is_of_this_user(&socket) {
            return true;
        }
        let name = Some((self.name.clone(), Fd(Arc::clone(listener))));
        let parts = Parts { region: self.region.clone(), name };
        let Ok(parcel) = transfer::encode(&parts) else { return false };
        let fds: Vec<_> = parcel.handles.iter().map(AsFd::as_fd).collect();
        // One that does not take its answer has gone.
        let _ = fds::send(&socket, &parcel.bytes, &fds, SendFlags::DONTWAIT);
        true
    }
}

pub(super) fn is_of_this_user(socket: &OwnedFd) -> bool {
    socket_peercred(socket).is_ok_and(|peer| peer.uid == geteuid())
}
