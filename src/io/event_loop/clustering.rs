//! The log that several servers share, as the loop has it.

use std::io;

use crate::io::event_loop::EventLoop;
use crate::threads::cluster::Cluster;
#[cfg(feature = "presence")]
use crate::threads::cluster::People;

impl EventLoop {
    /// Follows the log of the cluster, if there is one, whether Redis is there or not.
    pub(super) fn begin_cluster(&mut self) -> io::Result<()> {
        let config = self.engine.config();
        let Some(url) = config.cluster.redis.clone() else { return Ok(()) };
        let machine_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let cluster = Cluster::start(config, &url, &machine_name, &self.handle())?;
        #[cfg(feature = "presence")]
        if !config.topics.presence.is_empty() {
            let people = People::start(config, &url, &machine_name, self.handle())?;
            self.outside.people = Some(people);
            self.engine.tell_member_changes();
        }
        let now = self.outside.clock.now();
        self.engine.follow_log_when_reached(now);
        self.outside.cluster = Some(cluster);
        Ok(())
    }

    /// Gives the log what was published since the last call.
    pub(super) fn give_to_cluster(&mut self) {
        let Some(cluster) = &self.outside.cluster else { return };
        while let Some(publication) = self.engine.poll_publication() {
            cluster.give(publication);
        }
        cluster.note(self.engine.len(), self.engine.is_draining());
        if self.engine.tells_figures() {
            self.engine.set_cluster_figures(cluster.figures());
        }
        #[cfg(feature = "presence")]
        if let Some(people) = &self.outside.people {
            while let Some(change) = self.engine.poll_member_change() {
                people.tell(change);
            }
        }
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
