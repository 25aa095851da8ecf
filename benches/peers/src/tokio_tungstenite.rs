//! tokio-tungstenite on whichever runtime: a task per connection.
//!
//! The echo is `forward`, as in the crate's own example: it writes when there is nothing more to
//! read, so that messages that came together go together. The fan-out has a channel per connection,
//! as in the crate's example of a chat, and a task that writes.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

use crate::{Options, Task};

/// Who is connected, and where to put what they shall get.
#[derive(Clone, Debug, Default)]
struct Room(Arc<Mutex<HashMap<SocketAddr, UnboundedSender<Message>>>>);

impl Room {
    fn enter(&self, address: SocketAddr) -> UnboundedReceiver<Message> {
        let (sender, receiver) = unbounded_channel();
        self.with(|room| room.insert(address, sender));
        receiver
    }

    fn leave(&self, address: SocketAddr) {
        self.with(|room| room.remove(&address));
    }

    fn publish(&self, from: SocketAddr, message: &Message) {
        self.with(|room| {
            for (_, sender) in room.iter().filter(|(address, _)| **address != from) {
                // Who is just leaving gets nothing any more.
                let _ = sender.send(message.clone());
            }
        });
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut HashMap<SocketAddr, UnboundedSender<Message>>) -> T,
    ) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Serves on the runtime that polls it, for ever.
pub async fn serve(options: Options) -> io::Result<()> {
    let listener = TcpListener::from_std(options.bind()?)?;
    let room = Room::default();
    loop {
        let (stream, address) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let room = room.clone();
        tokio::spawn(async move {
            // Both end with the connection, in whichever way.
            let _ = match options.task {
                Task::Echo => echo(stream).await,
                Task::FanOut => fan_out(stream, address, &room).await,
            };
            room.leave(address);
        });
    }
}

async fn accept(stream: TcpStream) -> Result<WebSocketStream<TcpStream>, Error> {
    let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
    accept_async_with_config(stream, Some(config)).await
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let (write, read) = accept(stream).await?.split();
    read.try_filter(|message| future::ready(is_data(message))).forward(write).await
}

async fn fan_out(stream: TcpStream, address: SocketAddr, room: &Room) -> Result<(), Error> {
    // Before the client is answered: from then on, it may count on getting everything.
    let receiver = room.enter(address);
    let (write, read) = accept(stream).await?.split();
    let writer = tokio::spawn(write_all(write, receiver));
    let read = read
        .try_filter(|message| future::ready(is_data(message)))
        .try_for_each(|message| {
            room.publish(address, &message);
            future::ready(Ok(()))
        })
        .await;
    writer.abort();
    read
}

/// Writes what is there together.
async fn write_all(
    mut write: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut receiver: UnboundedReceiver<Message>,
) -> Result<(), Error> {
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, BATCH_MAX).await > 0 {
        for message in batch.drain(..) {
            write.feed(message).await?;
        }
        write.flush().await?;
    }
    Ok(())
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}

/// How many messages for one connection are written together at the most.
const BATCH_MAX: usize = 64;
