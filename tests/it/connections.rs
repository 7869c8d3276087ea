//! Proxies and certificates. The same settings apply to AWS and to Slack.

use std::{fs, net::SocketAddr};

use lab::{credentials::Credentials, events::Ecs, proxy::Proxy, tls::Authority, unique, worker::Worker};

use crate::world::{BINARY, LIMIT, World, outcome, with};

const AWS_HOSTS: [&str; 2] = ["sqs.eu-west-1.amazonaws.com", "secretsmanager.eu-west-1.amazonaws.com"];

fn emulator(world: &World) -> SocketAddr {
    world.aws.endpoint().trim_start_matches("http://").parse().unwrap()
}

/// The environment without the emulator's endpoint: requests go to the real names of AWS.
fn real_aws(world: &World) -> Vec<(String, String)> {
    world.environment().into_iter().filter(|(name, _)| name != "AWS_ENDPOINT_URL").collect()
}

#[tokio::test]
async fn requests_to_aws_and_slack_go_through_a_tunnel_of_the_proxy() {
    let world = World::new().await.config("[diagnose]\nenabled = false");
    let authority = Authority::new().unwrap();
    let aws = authority.before(emulator(&world), &AWS_HOSTS).await.unwrap();
    let slack = authority.before(world.slack.address(), &["hooks.slack.com"]).await.unwrap();
    let webhook = format!("https://hooks.slack.com/services/T00000000/B00000000/{}", world.name);
    world.aws.update_secret(&world.name, &webhook).await.unwrap();
    let routes = [
        ("sqs.eu-west-1.amazonaws.com:443", aws.address()),
        ("secretsmanager.eu-west-1.amazonaws.com:443", aws.address()),
        ("hooks.slack.com:443", slack.address()),
    ];
    for (variable, scheme) in [("SSL_CERT_FILE", "http"), ("AWS_CA_BUNDLE", "https")] {
        let proxy = Proxy::start(routes).await.unwrap();
        let proxy_by_tls = authority.before(proxy.address(), &["127.0.0.1"]).await.unwrap();
        let address = if scheme == "https" { proxy_by_tls.address() } else { proxy.address() };
        let more = [
            ("HTTPS_PROXY", &*format!("{scheme}://user:opensesame@{address}")),
            ("SLACK_ALLOWED_HOSTS", "hooks.slack.com"),
            (variable, authority.file().to_str().unwrap()),
        ];
        let mut worker = Worker::spawn(BINARY, with(&real_aws(&world), &more), &["run"]).unwrap();
        worker.wait_ready().await.unwrap();
        world.queue.send_events(&[Ecs::default().start_impaired(variable)]).await.unwrap();
        world.posted(&[variable]).await;
        for host in AWS_HOSTS.iter().chain(&["hooks.slack.com"]) {
            assert!(proxy.saw(host), "{variable}: {host} was not reached through the proxy");
        }
        let asked = proxy.asked();
        // dXNlcjpvcGVuc2VzYW1l is user:opensesame.
        assert!(
            asked
                .iter()
                .all(|asked| asked.tunnel && asked.authorization.as_deref() == Some("Basic dXNlcjpvcGVuc2VzYW1l"))
        );
        assert!(!worker.to_string().contains("opensesame"), "{worker}");
        // The worker must end before the next one starts, or its last receive takes the next worker's message.
        worker.terminate().await.unwrap();
        worker.wait(LIMIT).await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_certificate_authority_is_trusted_only_if_a_variable_names_it() {
    let world = World::new().await;
    let authority = Authority::new().unwrap();
    let aws = authority.before(emulator(&world), &["127.0.0.1"]).await.unwrap();
    let endpoint = format!("https://{}", aws.address());
    let (code, said) =
        outcome(with(&world.environment(), &[("AWS_ENDPOINT_URL", &endpoint)]), &["check", "--live"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("certificate"), "{said}");
    let trusted = [("AWS_ENDPOINT_URL", &*endpoint), ("AWS_CA_BUNDLE", authority.file().to_str().unwrap())];
    let (code, said) = outcome(with(&world.environment(), &trusted), &["check", "--live"]).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn an_error_about_certificates_names_the_variable_the_file_and_the_fault() {
    let world = World::new().await;
    let folder = std::env::temp_dir().join(unique("certificates"));
    fs::create_dir(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = folder.join("missing.pem").to_str().unwrap().to_owned();
    let der = file("ca.der", "\u{1}not text");
    let key = file("key.pem", "-----BEGIN PRIVATE KEY-----\nb3BlbnNlc2FtZQ==\n-----END PRIVATE KEY-----\n");
    let cut = file("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
    let nonsense = file("nonsense.pem", "-----BEGIN CERTIFICATE-----\nb3BlbnNlc2FtZQ==\n-----END CERTIFICATE-----\n");
    for (variable, path, fault) in [
        ("AWS_CA_BUNDLE", &missing, "No such file"),
        ("SSL_CERT_FILE", &missing, "No such file"),
        ("AWS_CA_BUNDLE", &der, "no PEM certificate"),
        ("SSL_CERT_FILE", &der, "no PEM certificate"),
        ("AWS_CA_BUNDLE", &key, "no PEM certificate"),
        ("SSL_CERT_FILE", &key, "no PEM certificate"),
        ("AWS_CA_BUNDLE", &cut, "PEM"),
        ("SSL_CERT_FILE", &cut, "PEM"),
        ("AWS_CA_BUNDLE", &nonsense, "certificate"),
        ("SSL_CERT_FILE", &nonsense, "certificate"),
        ("SSL_CERT_DIR", &missing, "No such file"),
    ] {
        for command in [&["check"][..], &["run"], &["send", "/dev/null"]] {
            let (code, said) = outcome(with(&world.environment(), &[(variable, path)]), command).await;
            assert_eq!(code, Some(2), "{variable} {path} {command:?}: {said}");
            for part in [variable, path, fault] {
                assert!(said.contains(part), "{variable} {command:?} lacks {part}: {said}");
            }
            assert!(!said.contains("panicked"), "{said}");
        }
    }
    let empty = folder.join("empty");
    fs::create_dir(&empty).unwrap();
    let (code, said) =
        outcome(with(&world.environment(), &[("SSL_CERT_DIR", empty.to_str().unwrap())]), &["check"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("SSL_CERT_DIR") && said.contains("no CA certificates"), "{said}");
    // A file with valid certificates may contain one that cannot be read.
    let authority = Authority::new().unwrap();
    let mixed = fs::read_to_string(&nonsense).unwrap() + &fs::read_to_string(authority.file()).unwrap();
    let mixed = file("mixed.pem", &mixed);
    for variable in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
        let (code, said) = outcome(with(&world.environment(), &[(variable, &mixed)]), &["check", "--live"]).await;
        assert_eq!(code, Some(0), "{variable}: {said}");
    }
    // An empty variable counts as unset: compose files can only set it to nothing.
    let (code, said) = outcome(with(&world.environment(), &[("AWS_CA_BUNDLE", "")]), &["check", "--live"]).await;
    assert_eq!(code, Some(0), "{said}");
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_proxy_with_another_scheme_is_refused_without_showing_its_password() {
    let world = World::new().await;
    for (variable, value) in [
        ("HTTPS_PROXY", "socks5://user:opensesame@proxy.example.com:1080"),
        ("all_proxy", "socks5h://user:opensesame@proxy.example.com:1080"),
        ("http_proxy", "http://user:opensesame@"),
    ] {
        for command in [&["check"][..], &["run"]] {
            let (code, said) = outcome(with(&world.environment(), &[(variable, value)]), command).await;
            assert_eq!(code, Some(2), "{variable}: {said}");
            assert!(said.contains(variable) && said.contains("http://proxy.example.com:3128"), "{said}");
            assert!(!said.contains("opensesame"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_proxy_never_sees_a_request_for_credentials() {
    let world = World::new().await.config("[diagnose]\nenabled = false");
    let credentials = Credentials::start("direct").await.unwrap();
    let proxy = Proxy::start([]).await.unwrap();
    let mut environment = with(&world.environment(), &[("HTTP_PROXY", &proxy.url()), ("NO_PROXY", "example.com")]);
    environment.extend(credentials.environment());
    let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    world.queue.send_events(&[Ecs::default().start_impaired("proxied")]).await.unwrap();
    world.posted(&["proxied"]).await;
    let seen: Vec<String> = proxy.asked().into_iter().map(|asked| asked.host).collect();
    for through in [emulator(&world), world.slack.address()] {
        assert!(seen.contains(&through.to_string()), "{through} was not reached through the proxy: {seen:?}");
    }
    assert!(!seen.contains(&credentials.address().to_string()), "{seen:?}");
    assert_eq!(credentials.asked(), 1);
}

#[tokio::test]
async fn the_credential_addresses_of_ecs_and_eks_are_asked_directly_even_if_no_proxy_does_not_name_them() {
    let world = World::new().await;
    let proxy = Proxy::start([]).await.unwrap();
    let no_keys =
        [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("ALL_PROXY", &*proxy.url()), ("NO_PROXY", "")];
    let environment = with(&world.environment(), &no_keys);
    let ask = async |variable: &str, value: &str| {
        // There are no credentials at these addresses.
        let (code, said) = outcome(with(&environment, &[(variable, value)]), &["check", "--live"]).await;
        assert_eq!(code, Some(1), "{value}: {said}");
    };
    tokio::join!(
        ask("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/nothing"),
        ask("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/nothing"),
        ask("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://[fd00:ec2::23]/nothing"),
    );
    assert_eq!(proxy.asked(), [], "all three failed before a request to AWS was made");
}
