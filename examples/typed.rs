//! Messages as values of types: JSON by serde, which the library knows nothing of.
//! `{"op":"add","to":"apples","count":3}` is answered by what there is now.

use std::collections::HashMap;
use std::marker::PhantomData;

use heartwheel::http::Request;
use heartwheel::{BadMessage, Builder, Codec, Message, Server, Typed, TypedHandler, TypedPeer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Any format of serde is a codec in as few lines: this one is for all types.
struct Json<I, O>(PhantomData<fn(I, O)>);

impl<I: DeserializeOwned + 'static, O: Serialize + 'static> Codec for Json<I, O> {
    type Incoming = I;
    type Outgoing = O;

    fn decode(&self, message: Message) -> Result<I, BadMessage> {
        let text = message.as_text().ok_or_else(|| BadMessage::with_code(1003, "JSON is text"))?;
        Ok(serde_json::from_str(text)?)
    }

    fn encode(&self, value: &O) -> Message {
        Message::text(serde_json::to_string(value).expect("the keys of its maps are strings"))
    }
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Order {
    Add { to: String, count: u32 },
    Clear,
}

#[derive(Default, Serialize)]
struct Stock {
    pieces: HashMap<String, u32>,
}

type Warehouse = Json<Order, Stock>;

struct Clerk;

impl TypedHandler<Warehouse> for Clerk {
    type Session = Stock;

    fn open(&self, peer: TypedPeer<'_, Warehouse>, _: Request) -> Stock {
        let stock = Stock::default();
        peer.send(&stock);
        stock
    }

    fn message(&self, stock: &mut Stock, peer: TypedPeer<'_, Warehouse>, order: Order) {
        match order {
            Order::Add { to, count } => {
                let pieces = stock.pieces.entry(to).or_default();
                *pieces = pieces.saturating_add(count);
            }
            Order::Clear => stock.pieces.clear(),
        }
        peer.send(stock);
    }
}

fn routes() -> Builder {
    Server::builder().websocket("/stock", Typed::new(Json(PhantomData), Clerk))
}

fn main() -> heartwheel::Result<()> {
    routes().listen("127.0.0.1:8765")?.run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_and_the_stock_is_written() {
        let json: Warehouse = Json(PhantomData);
        let order = json.decode(r#"{"op":"add","to":"apples","count":3}"#.into());
        assert!(matches!(order, Ok(Order::Add { to, count: 3 }) if to == "apples"));
        let broken = json.decode(r#"{"op":"steal"}"#.into()).err();
        let why = "unknown variant `steal`, expected `add` or `clear` at line 1 column 13";
        assert_eq!(broken, Some(BadMessage::new(why)));
        let binary = json.decode(Message::binary(vec![1])).err();
        assert_eq!(binary, Some(BadMessage::with_code(1003, "JSON is text")));
        let stock = Stock { pieces: [("apples".to_owned(), 3)].into() };
        assert_eq!(json.encode(&stock).as_text(), Some(r#"{"pieces":{"apples":3}}"#));
    }
}
