// gorilla/websocket behind net/http: a goroutine per connection, which reads each message into one
// buffer of its own.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}

func main() {
	listen := flag.String("listen", "", "`ADDRESS:PORT` to listen on")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening", listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(serve)))
}

func serve(writer http.ResponseWriter, request *http.Request) {
	socket, err := upgrader.Upgrade(writer, request, nil)
	if err != nil {
		return
	}
	defer socket.Close()
	var message bytes.Buffer
	for {
		kind, reader, err := socket.NextReader()
		if err != nil {
			return
		}
		message.Reset()
		if _, err := message.ReadFrom(reader); err != nil {
			return
		}
		if err := socket.WriteMessage(kind, message.Bytes()); err != nil {
			return
		}
	}
}
