//! A way to a server that can be cut: to the client the server is gone, and then back.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

pub struct Proxy {
    target: String,
    address: SocketAddr,
    accepting: JoinSet<()>,
}

impl Proxy {
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut proxy = Self { target: target.to_owned(), address, accepting: JoinSet::new() };
        proxy.accept(listener);
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&mut self, listener: TcpListener) {
        let target = self.target.clone();
        self.accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.clone();
                connections.spawn(async move {
                    let Ok(mut server) = TcpStream::connect(&target).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
    }

    /// Ends all connections and refuses new ones.
    pub async fn cut(&mut self) {
        self.accepting.shutdown().await;
    }

    /// Takes connections again, at the same address.
    pub async fn restore(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.accept(socket.listen(16).unwrap());
    }
}
