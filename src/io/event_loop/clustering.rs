//! The log that several servers share, as the loop has it.

use std::io;

#[cfg(feature = "presence")]
use log::warn;

use crate::core::contract::backbone::Logged;
use crate::core::contract::event::Command;
use crate::io::event_loop::EventLoop;
use crate::threads::cluster::Cluster;
#[cfg(feature = "presence")]
use crate::threads::cluster::People;

impl EventLoop {
    /// Follows the log of the cluster, if there is one, whether Redis is there or not.
    pub(super) fn begin_cluster(&mut self) -> io::Result<()> {
        let config = self.engine.config();
        let Some(url) = config.cluster.redis.clone() else { return Ok(()) };
        let cluster = Cluster::start(config, &url, &machine_name(), &self.handle())?;
        #[cfg(feature = "presence")]
        if !config.topics.presence.is_empty() {
            self.engine.tell_member_changes();
            self.follow_people()?;
        }
        let now = self.outside.clock.now();
        self.engine.follow_log_when_reached(now);
        self.outside.cluster = Some(cluster);
        Ok(())
    }

    /// Gives the log what was published since the last call.
    pub(super) fn give_to_cluster(&mut self) {
        let Some(cluster) = &self.outside.cluster else { return };
        let mut refused = Vec::new();
        while let Some(publication) = self.engine.poll_publication() {
            refused.extend(cluster.give(publication));
        }
        cluster.note(self.engine.len(), self.engine.is_draining());
        if self.engine.tells_figures() {
            self.engine.set_cluster_figures(cluster.figures());
        }
        let now = self.outside.clock.now();
        for ticket in refused {
            let command = Command::Logged(Box::new(Logged::Refused(ticket)));
            self.engine.take_command(now, &mut self.outside, None, command);
        }
        #[cfg(feature = "presence")]
        self.give_to_people();
    }

    /// Gives the thread of people what it is to tell. Begins it with the first reload that names
    /// topics.
    #[cfg(feature = "presence")]
    fn give_to_people(&mut self) {
        if self.outside.people.is_none()
            && self.engine.tells_member_changes()
            && let Err(error) = self.follow_people()
        {
            warn!("cluster: people of other nodes are not told of: {error}");
            return self.engine.keep_member_changes();
        }
        let Some(people) = &self.outside.people else { return };
        while let Some(change) = self.engine.poll_member_change() {
            people.tell(change);
        }
    }

    /// Starts the thread that tells other nodes who is here. It runs until the server ends, also
    /// where a later reload names no topic: then it has nobody to tell of.
    #[cfg(feature = "presence")]
    fn follow_people(&mut self) -> io::Result<()> {
        let config = self.engine.config();
        let Some(url) = &config.cluster.redis else { return Ok(()) };
        self.outside.people = Some(People::start(config, url, &machine_name(), self.handle())?);
        Ok(())
    }

    /// Ends the threads. The loop must take no more commands: they may wait for room.
    pub(super) fn end_cluster(&mut self) {
        #[cfg(feature = "presence")]
        if let Some(people) = &mut self.outside.people {
            people.stop();
        }
        if let Some(cluster) = &mut self.outside.cluster {
            cluster.stop();
        }
    }
}

/// Returns what a node is called that has no name of its own.
fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
