//! The way in without a socket: an HTTP client for the AWS SDK whose server is a function call.

use std::io;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;

use super::EmbeddedKinesis;
use super::wire::{Body, Outcome, Request};

impl EmbeddedKinesis {
    /// A client for `aws_sdk_kinesis::Config`: whatever the endpoint, every call is answered here.
    ///
    /// It keeps this Kinesis open. Calls need a tokio runtime.
    pub fn http_client(self: &Arc<Self>) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(InProcess { kinesis: Arc::clone(self) });
        http_client_fn(move |_, _| connector.clone())
    }
}

#[derive(Debug)]
struct InProcess {
    kinesis: Arc<EmbeddedKinesis>,
}

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let kinesis = Arc::clone(&self.kinesis);
        HttpConnectorFuture::new(async move {
            let header = |name: &str| request.headers().get(name).map(str::to_owned);
            let (target, content_type, authorization) =
                (header("x-amz-target"), header("content-type"), header("authorization"));
            // No action sends a stream.
            let body = Bytes::copy_from_slice(request.body().bytes().unwrap_or_default());
            match kinesis.handle(Request { target, content_type, authorization, body }).await {
                Outcome::Cut => Err(ConnectorError::io(
                    io::Error::new(io::ErrorKind::ConnectionReset, "the connection was cut by a test's fault").into(),
                )),
                Outcome::Answer(answer) => {
                    let status =
                        answer.status.try_into().map_err(|error| ConnectorError::other(Box::new(error), None))?;
                    let (content_type, error) = (answer.content_type, answer.error);
                    let body = match answer.body {
                        Body::Full(bytes) => SdkBody::from(bytes),
                        Body::Events(events) => SdkBody::from_body_1_x(events),
                    };
                    let mut response = HttpResponse::new(status, body);
                    response.headers_mut().insert("content-type", content_type);
                    response.headers_mut().insert("x-amzn-requestid", uuid::Uuid::new_v4().to_string());
                    if let Some(error) = error {
                        response.headers_mut().insert("x-amzn-errortype", error);
                    }
                    Ok(response)
                }
            }
        })
    }
}
