//! The egress guard: requests go to public addresses only, unless the configuration allows the network.

use std::collections::HashMap;

use serde_json::json;
use uuid::Uuid;

use super::support::app::TestApp;
use super::support::courier::Courier;
use super::support::receiver::{ACCEPTED, Manner, Receiver};
use super::support::wait::until;

const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";

#[tokio::test]
async fn what_is_not_public_is_refused_before_anything_connects_and_is_on_record() {
    let app = TestApp::new(&[
        ("deliver.egress_allow", "192.0.2.1/32"),
        ("deliver.retry.first_delay_ms", "600000"),
        ("deliver.request_timeout_seconds", "5"),
    ])
    .await;
    let receiver = Receiver::start(Manner::Silent).await;
    let port = receiver.address.port();
    let mut owed: HashMap<String, Uuid> = HashMap::new();
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::1]",
        "0.0.0.0",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.0.1.",
        "１２７.0.0.1",
        "100.64.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "198.18.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:db8::1]",
        "[fe80::1]",
        "[ff02::1]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "user:password@127.0.0.1",
    ] {
        let destination = app.add_hub(host, &format!("http://{host}:{port}"), json!({})).await;
        owed.insert(host.to_owned(), app.owe(destination, 1).await[0]);
    }
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, "SELECT count(*) FROM delivery_attempts", owed.len() as i64).await;
    for (host, id) in owed {
        let attempt = app.attempts(id).await.remove(0);
        let error = attempt["error"].as_str().unwrap();
        assert!(error.contains("not a public address"), "{host}: {error}");
        assert!(error.contains("egress_allow"), "{host}: {error}");
        assert!(!error.contains("password"), "{host}: {error}");
        assert!(attempt["status_code"].is_null());
        assert_ne!(app.delivery(id).await["status"], "delivered");
    }
    assert_eq!(receiver.connections(), 0);
}

/// An address with a zone is no address of the web: it is not even read, and the destination waits for a person.
#[tokio::test]
async fn an_address_with_a_zone_is_refused_by_whoever_reads_it_first() {
    let app = TestApp::new(&[]).await;
    for host in ["[fe80::1%25lo]", "[fe80::1%lo]", "[::1%25lo]"] {
        let destination = app.add_hub(host, &format!("http://{host}:9"), json!({})).await;
        let id = app.owe(destination, 1).await[0];
        let mut courier = Courier::new(&app.config()).await;
        let recorded = format!("SELECT count(*) FROM delivery_attempts WHERE notification_id = '{id}'");
        courier.step_until(&app, &recorded, 1).await;
        assert_eq!(app.outcomes(id).await, ["hold"], "{host}");
        assert_eq!(app.destination(destination).await["state"], "held");
    }
}

#[tokio::test]
async fn what_the_configuration_allows_is_reached_by_address_and_by_name() {
    let app = TestApp::new(&[("deliver.egress_allow", "127.0.0.0/8,::1/128")]).await;
    let receiver = Receiver::start(Manner::Bytes(ACCEPTED.to_vec())).await;
    let port = receiver.address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let destination = app.add_hub(host, &format!("http://{host}:{port}"), json!({})).await;
        app.owe(destination, 1).await;
    }
    let mut courier = Courier::new(&app.config()).await;
    courier.step_until(&app, DELIVERED, 3).await;
    assert_eq!(receiver.requests(), 3);
}

#[tokio::test]
async fn no_proxy_of_the_environment_is_used() {
    let mut app = TestApp::new(&[]).await;
    let proxy = Receiver::start(Manner::Bytes(ACCEPTED.to_vec())).await;
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        app.environment.insert(name.to_owned(), proxy.url());
    }
    // One over TLS too: it is a proxy's business to connect there.
    let other = Receiver::start(Manner::Silent).await;
    let over_tls = app.add_hub("over TLS", &other.url().replace("http://", "https://"), json!({})).await;
    app.owe(app.destination, 3).await;
    app.owe(over_tls, 1).await;
    let process = app.spawn("deliver");
    app.wait_for_count(DELIVERED, 3).await;
    until("a connection", async || (other.connections() > 0).then_some(())).await;
    assert_eq!((app.hub.total(), proxy.connections()), (3, 0));
    assert_eq!(process.terminate().await, Some(0));
}
