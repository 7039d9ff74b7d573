//! A role of this program: takes whatever an OTLP exporter sends, and keeps nothing.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::Result;
use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use tonic::service::Routes;

/// A message of gRPC in which every field has its default: "all of it was taken".
const TAKEN: Bytes = Bytes::from_static(&[0; 5]);

/// Takes it until it is ended.
pub(crate) async fn run(listen: SocketAddr) -> Result<()> {
    let routes = Routes::from(Router::new().fallback(take));
    Ok(tonic::transport::Server::builder().add_routes(routes).serve(listen).await?)
}

async fn take(request: Request) -> Response {
    // Half of it, perhaps: then the exporter is gone.
    let _ = request.into_body().collect().await;
    let trailers =
        HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(TAKEN).with_trailers(std::future::ready(Some(Ok::<_, Infallible>(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
