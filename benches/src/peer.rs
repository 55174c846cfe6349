//! The peer that an invocation is measured against: a static answer by the
//! same HTTP server with as many workers, in a process of its own.

use std::io::Write as _;

use actix_web::{App, HttpResponse, HttpServer, web};

/// The path it answers on: GET, and POST whose body it reads.
pub const PATH: &str = "/static";

/// Serves `body` until the process is ended; prints its address first.
///
/// # Errors
/// When no port can be had.
pub async fn serve(workers: usize, body: &'static [u8]) -> anyhow::Result<()> {
    // The body is read, as the node reads it: a server that leaves it unread
    // has to close the connection.
    let answer = move |_request: web::Bytes| async move {
        HttpResponse::Ok()
            .content_type("application/json")
            .body(body)
    };
    let server = HttpServer::new(move || {
        App::new()
            .route(PATH, web::get().to(answer))
            .route(PATH, web::post().to(answer))
    })
    .workers(workers)
    .bind(("127.0.0.1", 0))?;
    let address = server.addrs().first().copied();
    let address = address.ok_or_else(|| anyhow::anyhow!("the server has no address"))?;
    println!("{address}");
    std::io::stdout().flush()?;
    server.run().await?;
    Ok(())
}
