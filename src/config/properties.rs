//! A valid configuration is read as written, in the file or in variables. An invalid one is refused with a message that names the key and
//! shows no webhook.

use std::collections::{BTreeSet, HashMap};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const NEEDS: Needs = Needs { queue: true, webhooks: true };
const WEBHOOK: &str = "https://hooks.slack.com/services/T0/B0/open-sesame";
/// Everything that is required, except a queue.
const CHANNEL: &str = "[[channel]]\nname = 'a'\nwebhook_secret_id = 'x'\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_configuration_is_read_as_written(sample in sample(), by_variable in vec(any::<bool>(), 5)) {
        let Sample { account, url, visibility, in_flight, pollers, grace, listen, channels, routes } = &sample;
        let mut env = HashMap::new();
        let mut line = |place: usize, variable: &'static str, key: &str, value: String| {
            if by_variable[place] {
                env.insert(variable, value);
                return String::new();
            }
            format!("{key} = {}\n", quoted(&value))
        };
        let mut file = line(0, "ACCOUNT_NAME", "account_name", account.clone());
        file += &format!(
            "[queue]\nvisibility_timeout = '{visibility}s'\nmax_in_flight = {in_flight}\npollers = {pollers}\n{}",
            line(1, "QUEUE_URL", "url", url.clone()),
        );
        file += &format!("[worker]\n{}", line(2, "SHUTDOWN_GRACE", "shutdown_grace", format!("{grace}s")));
        file += &format!("[server]\n{}", line(3, "LISTEN_ADDR", "listen", listen.to_string()));
        file += &format!("[log]\n{}", line(4, "LOG_FORMAT", "format", "text".into()));
        for name in channels {
            file += &format!("[[channel]]\nname = {}\nwebhook_secret_id = 'of {}'\n", quoted(name), name.len());
        }
        for (channel, proceed) in routes {
            file += &format!("[[route]]\nchannel = {}\ncontinue = {proceed}\n", quoted(&channels[channel % channels.len()]));
        }

        let config = Config::from_text(&file, &|name| env.get(name).cloned(), NEEDS).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(config.account_name.as_ref(), Some(account));
        prop_assert_eq!(&config.queue.url, url);
        prop_assert_eq!(config.queue.visibility_timeout, Duration::from_secs(*visibility));
        prop_assert_eq!((config.queue.max_in_flight, config.queue.pollers), (*in_flight, *pollers));
        prop_assert_eq!(config.shutdown_grace, Duration::from_secs(*grace));
        prop_assert_eq!(config.listen, *listen);
        prop_assert_eq!(config.log_format, Some(log::Format::Text));
        prop_assert_eq!(&config.channels.iter().map(|channel| channel.name.clone()).collect::<Vec<_>>(), channels);
        let read: Vec<_> = config.routes.iter().map(|route| (route.channel.0, route.proceed)).collect();
        let written: Vec<_> = routes.iter().map(|(channel, proceed)| (channel % channels.len(), *proceed)).collect();
        prop_assert_eq!(read, written);
        let consumer = config.consumer();
        prop_assert!(consumer.wait >= Duration::from_secs(1) && consumer.wait <= config.shutdown_grace.max(Duration::from_secs(1)));
    }

    #[test]
    fn an_invalid_value_is_refused_with_the_name_of_its_key(case in invalid(), webhook in prop::option::of(0..4usize)) {
        let (section, key, mut value) = case;
        // The value has the wrong type, contains a webhook, or is one.
        match webhook {
            Some(0) => value = format!("['{WEBHOOK}']"),
            Some(1) => value = format!("{{ '{WEBHOOK}' = 1 }}"),
            Some(2) if !["account_name", "url", "name", "webhook_url"].contains(&key) => value = format!("'{WEBHOOK}'"),
            _ => {}
        }
        let file = match section {
            "" => format!("{key} = {value}\n{CHANNEL}"),
            "channel" => format!("[[channel]]\nname = 'a'\n{key} = {value}\n").replacen("name = 'a'\n", if key == "name" { "webhook_secret_id = 'x'\n" } else { "name = 'a'\n" }, 1),
            "route" if key == "channel" => format!("{CHANNEL}[[route]]\nchannel = {value}\n"),
            "route" => format!("{CHANNEL}[[route]]\nchannel = 'a'\n{key} = {value}\n"),
            section => format!("{CHANNEL}[{section}]\n{key} = {value}\n"),
        };
        let env = |name: &str| {
            (name == "QUEUE_URL" && key != "url").then(|| "https://sqs.eu-west-1.amazonaws.com/1/q".to_owned())
        };
        let error = Config::from_text(&file, &env, NEEDS).map(drop).map_err(|error| error.to_string());
        let Err(error) = error else { return Err(TestCaseError::fail(format!("accepted: {file}"))) };
        let place = match section {
            "" => key.to_owned(),
            "channel" | "route" => format!("{section}[0].{key}"),
            section => format!("{section}.{key}"),
        };
        prop_assert!(error.contains(&format!(" {place}")), "{error} lacks {place}; {file}");
        prop_assert!(!error.contains("open-sesame"), "{error}");
    }
}

#[derive(Debug, Clone)]
struct Sample {
    account: String,
    url: String,
    visibility: u64,
    in_flight: usize,
    pollers: usize,
    grace: u64,
    listen: SocketAddr,
    channels: Vec<String>,
    /// The index of a channel, modulo their number, and whether the route continues.
    routes: Vec<(usize, bool)>,
}

fn sample() -> impl Strategy<Value = Sample> {
    let names = prop::collection::btree_set("[^\\pC]{1,20}", 1..4)
        .prop_map(|names: BTreeSet<String>| names.into_iter().collect());
    let socket = (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
    let numbers = (2..=43_200u64, 1..=100_000usize, 1..=64usize, 1..=3_600u64);
    let routes = vec((any::<usize>(), any::<bool>()), 1..5);
    (
        "[^\\pC]{1,30}",
        "https://[a-z]{1,9}\\.test(:[1-9][0-9]{0,3})?/[0-9]{1,12}/[a-z-]{1,20}",
        numbers,
        socket,
        names,
        routes,
    )
        .prop_map(|(account, url, (visibility, in_flight, pollers, grace), listen, channels, routes)| Sample {
            account,
            url,
            visibility,
            in_flight,
            pollers,
            grace,
            listen,
            channels,
            routes,
        })
}

/// A JSON string is a TOML string, unless it contains surrogate escapes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A section, a key in it, and a value that is wrong there.
fn invalid() -> impl Strategy<Value = (&'static str, &'static str, String)> {
    const TEXT: &[&str] = &["1", "true", "1.5", "['x']", "{ a = 1 }", "2026-11-22"];
    const DURATION: &[&str] =
        &["1", "true", "''", "'soon'", "'-1s'", "'0s'", "'1000h'", "'1 s 1'", "'99999999999999999999s'", "['2m']"];
    const INTEGER: &[&str] = &["-1", "100001", "9223372036854775807", "1.0", "'5'", "true", "[1]", "{ a = 1 }", "nan"];
    const BOOLEAN: &[&str] = &["1", "'true'", "[true]", "{ a = true }"];
    let of = |section, key, values: &'static [&'static str]| {
        select(values).prop_map(move |value| (section, key, value.to_owned())).boxed()
    };
    let unknown =
        (select(&["", "queue", "worker", "server", "log", "slack", "diagnose", "channel", "route"][..]), select(TEXT));
    prop_oneof![
        of("", "account_name", TEXT),
        of("queue", "url", TEXT),
        of("queue", "visibility_timeout", DURATION),
        of("queue", "visibility_timeout", &["'1s'", "'2500ms'", "'12h 1s'"]),
        of("queue", "max_in_flight", INTEGER),
        of("queue", "pollers", INTEGER),
        of("worker", "shutdown_grace", DURATION),
        of("server", "listen", &["1", "'9090'", "'localhost'", "':1'", "'1.2.3.4:99999'"]),
        of("log", "format", &["1", "'JSON'", "''", "['json']"]),
        of("slack", "allowed_hosts", &["1", "[1]", "['a', 1]", "'a/b'", "'a b'", "'a#b'", "'a?b'"]),
        of("diagnose", "enabled", BOOLEAN),
        of("diagnose", "timeout", DURATION),
        of("diagnose", "log_lines", INTEGER),
        of("diagnose.crash_loop", "stops", INTEGER),
        of("diagnose.crash_loop", "within", DURATION),
        of("channel", "name", TEXT),
        of("channel", "webhook_secret_id", TEXT),
        of(
            "channel",
            "webhook_url",
            &["1", "true", "'x'", "'http://hooks.slack.com/services/x'", "'https://evil.example/'"]
        ),
        of("channel", "mention", &["1", "'@here'", "' '", "['<!here>']"]),
        of("", "unrouted", &["1", "true", "'keep'", "''"]),
        of("route", "channel", &["1", "'b'", "['a']"]),
        of("route", "mention", &["1", "'@here'", "'<!here>, <!channel>'", "{ a = 1 }"]),
        of("route", "mention_from", &["1", "'info'", "''", "['critical']"]),
        of("route", "continue", BOOLEAN),
        of(
            "route",
            "pattern",
            &["1", "'x'", "'[]'", "{}", "{ a = 1 }", "{ a = [] }", "{ a = [{ b = 1 }] }", "[]", "{ a = [2026-11-22] }"]
        ),
        unknown.prop_map(|(section, value)| (section, "no_such_key", value.to_owned())),
    ]
}
