use super::*;

/// What every policy here begins with: a caller that is right.
fn after_a_right_caller(text: &str) -> String {
    format!("[[caller]]\nname = '{DESK}'\nallow = [{{ scopes = ['unblock'], environments = 'all' }}]\n{text}")
}

fn told(text: &str) -> Vec<String> {
    policy(text)
        .err()
        .map_or_else(Vec::new, |Mistakes(found)| found.iter().map(ToString::to_string).collect())
}

fn caller(lines: &str) -> String {
    format!("[[caller]]\n{lines}")
}

#[test]
fn each_mistake_is_told_with_its_line_and_what_to_do() {
    let allow = "allow = [{ scopes = ['unblock', 'bulk'], environments = 'all' }]";
    let desk = format!("name = '{DESK}'\n{allow}");
    let with_scopes = |scopes: &str| {
        caller(&format!("name = 'dns:desk'\nallow = [{{ scopes = {scopes}, environments = 'all' }}]"))
    };
    let with_environments = |environments: &str| {
        caller(&format!(
            "name = 'dns:desk'\nallow = [{{ scopes = ['read'], environments = {environments} }}]"
        ))
    };
    let with_name = |name: &str| caller(&format!("name = {name}\n{allow}"));
    let bounded = |bounds: &str| caller(&format!("{desk}\n[caller.bounds]\n{bounds}"));
    for (text, line, said) in [
        (String::new(), None, "it names no caller"),
        ("x = [".to_owned(), Some(1), "this is not TOML"),
        ("callers = []".to_owned(), Some(1), "did you mean caller?"),
        (
            "caller = 'all'".to_owned(),
            Some(1),
            "a text stands where a list of tables belongs; begin each with [[caller]]",
        ),
        (caller(allow), Some(1), "this does not say in one way whom it is about"),
        (
            caller(&format!("issuer = '{ISSUER}'\n{desk}")),
            Some(1),
            "write either name, or issuer and token_scope",
        ),
        (
            caller(&format!("issuer = '{ISSUER}'\n{allow}")),
            Some(1),
            "write either name, or issuer and token_scope",
        ),
        (
            caller(&format!("issuer = 'pingone'\ntoken_scope = 'desk'\n{allow}")),
            Some(2),
            "\"pingone\" is no issuer",
        ),
        (
            caller(&format!("issuer = '{ISSUER}'\ntoken_scope = 'a b'\n{allow}")),
            Some(3),
            "\"a b\" is not one scope",
        ),
        (
            caller(&format!("issuer = '{ISSUER}'\ntoken_scope = 'openid'\n{allow}")),
            Some(3),
            "whoever signs in may hold openid",
        ),
        (with_name("'help-desk'"), Some(2), "\"help-desk\" is no caller's name"),
        (with_name("'dns:'"), Some(2), "is no caller's name"),
        (with_name("'https://auth.example.com/as|'"), Some(2), "is no caller's name"),
        (with_name("'dns:*.example.com'"), Some(2), "has a *, but names are exact"),
        (with_name("'anonymous'"), Some(2), "authentication is off"),
        (with_name("7"), Some(2), "a number stands where a text belongs"),
        (with_name("' dns:desk'"), Some(2), "has spaces around it"),
        (
            with_name("'dns:desk'\nnarrowed_by_token = true"),
            Some(1),
            "narrowed_by_token is for one caller with a token",
        ),
        (
            with_name("'dns:desk'\nnarrowed_by_token = 'yes'"),
            Some(3),
            "a text stands where true or false belongs",
        ),
        (with_name("'dns:desk'\ndescripton = 'the desk'"), Some(3), "did you mean description?"),
        (with_name("'dns:desk'\ndescription = ''"), Some(3), "is empty"),
        (caller("name = 'dns:desk'"), Some(1), "this caller is allowed nothing"),
        (caller("name = 'dns:desk'\nallow = []"), Some(1), "this caller is allowed nothing"),
        (caller("name = 'dns:desk'\nallow = 'all'"), Some(3), "a text stands where a list of tables belongs"),
        (caller("name = 'dns:desk'\nallow = ['read']"), Some(3), "a text stands where a table belongs"),
        (
            with_scopes("['unblok']"),
            Some(3),
            "there is no scope \"unblok\"; did you mean unblock? the scopes are unblock, bulk,",
        ),
        (with_scopes("['read', 'read']"), Some(3), "read stands here twice"),
        (with_scopes("[]"), Some(3), "no scope is named"),
        (with_scopes("'all'"), Some(3), "a text stands where a list of scopes belongs"),
        (caller("name = 'dns:desk'\nallow = [{ environments = 'all' }]"), Some(3), "no scope is named"),
        (caller("name = 'dns:desk'\nallow = [{ scopes = ['read'] }]"), Some(3), "no environment is named"),
        (with_environments("[]"), Some(3), "no environment is named"),
        (with_environments("'any'"), Some(3), "a text stands where a list of environments belongs"),
        (with_environments("['mine']"), Some(3), "\"mine\" is not a UUID"),
        (with_environments(&format!("['{HERE}', '{}']", HERE.to_uppercase())), Some(3), "stands here twice"),
        (
            caller(&format!(
                "name = 'dns:desk'\nallow = [{{ scopes = ['read'], environments = 'all' }},\n  {{ scopes = ['read'], environments = ['{HERE}'] }}]"
            )),
            Some(4),
            "read is allowed there already",
        ),
        (format!("{}\n{}", caller(&desk), caller(&desk)), Some(4), "stands in line 1 already"),
        (
            bounded("calls_per_second = 0"),
            Some(5),
            "this is no bound; write a whole number from 1 to 1000000000, or \"none\"",
        ),
        (bounded("batch_rows = -1"), Some(5), "this is no bound"),
        (bounded("open_streams = 1.5"), Some(5), "this is no bound"),
        (
            bounded("unblocks_per_hour = 5\nunblocks_per_day = 4"),
            Some(4),
            "5 unblocks in an hour, but 4 in a whole day",
        ),
        (bounded("unblocks_per_device = 'none'"), Some(5), "there is no key \"unblocks_per_device\""),
        (
            format!("{}\n[caller.bounds]\nunblocks_per_hour = 5", with_scopes("['read']")),
            Some(5),
            "bounds what this caller may not do: it lacks unblock and bulk",
        ),
        (
            format!("{}\n[caller.bounds]\nbatch_rows = 5", with_scopes("['unblock']")),
            Some(5),
            "it lacks bulk",
        ),
        (after_a_right_caller("bounds = 1"), Some(4), "a number stands where a table belongs"),
        (
            after_a_right_caller("[bounds]\nunblocks_per_device = 3"),
            Some(5),
            "a number stands where a table belongs",
        ),
        (
            after_a_right_caller("[bounds]\nunblocks_per_device = { count = 3 }"),
            Some(5),
            "has a count and a time",
        ),
        (
            after_a_right_caller("[bounds]\nunblocks_per_device = { count = 0, within = '24h' }"),
            Some(5),
            "this is no bound",
        ),
        (
            after_a_right_caller("[bounds]\nunblocks_per_device = { count = 3, within = '1s' }"),
            Some(5),
            "\"1s\" is no time to count in",
        ),
        (
            after_a_right_caller("[bounds]\nunblocks_per_device = { count = 3, within = '8d' }"),
            Some(5),
            "\"8d\" is no time to count in",
        ),
        (
            after_a_right_caller("[bounds]\nunblocks_per_device = { count = 1001, within = '24h' }"),
            Some(5),
            "this is no bound",
        ),
        (
            after_a_right_caller("[demands]\nrequire_reason = 1"),
            Some(5),
            "a number stands where true or false belongs",
        ),
        (
            after_a_right_caller("[demands]\nticket_pattern = '(INC'"),
            Some(5),
            "\"(INC\" is no regular expression",
        ),
        (after_a_right_caller("[demands]\nticket_pattern = 'a)|(b'"), Some(5), "is no regular expression"),
        (
            after_a_right_caller("[demands]\nticket_pattern = '\\w{1000}{1000}'"),
            Some(5),
            "this pattern is too large",
        ),
        (
            after_a_right_caller("[[environment]]\nrequire_reason = true"),
            Some(4),
            "does not say which environment",
        ),
        (
            after_a_right_caller(&format!("[[environment]]\nid = '{HERE}'")),
            Some(4),
            "this says nothing about the environment",
        ),
        (
            after_a_right_caller("[[environment]]\nid = 'x'\nrequire_reason = true"),
            Some(5),
            "\"x\" is not a UUID",
        ),
        (
            after_a_right_caller(&format!(
                "[[environment]]\nid = '{HERE}'\nrequire_reason = true\n[[environment]]\nid = '{HERE}'\nrequire_ticket = true"
            )),
            Some(7),
            "stands here a second time",
        ),
        (
            format!(
                "{}\n[[environment]]\nid = '{THERE}'\nrequire_reason = true",
                with_environments(&format!("['{HERE}']"))
            ),
            Some(4),
            "nobody may do anything in the environment",
        ),
    ] {
        let told = told(&text);
        assert_eq!(told.len(), 1, "{text}\n{told:?}");
        let place = line.map_or_else(String::new, |line: usize| format!("line {line}: "));
        assert!(told[0].starts_with(&place) && told[0].contains(said), "{text}\n{told:?}\nnot {place}{said}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_their_lines() {
    let text = "[[caller]]\nname = 'desk'\nallow = [\n  { scopes = ['reed'], environments = ['x'] },\n]\n[demands]\nrequire_tickets = true\n";
    let told = told(text);
    let lines: Vec<_> = told.iter().map(|mistake| mistake.split(':').next().unwrap_or_default()).collect();
    assert_eq!(lines, ["line 2", "line 4", "line 4", "line 7"], "{told:?}");
    let error = policy(text).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.starts_with("the policy has 4 mistakes:\n  line 2: "), "{error}");
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_before_it_is_read() {
    let right = after_a_right_caller("");
    let mut filled = right.clone().into_bytes();
    filled.resize(1024 * 1024, b'#');
    assert!(Policy::parse(&filled).is_ok(), "1 MiB of comments is allowed");
    filled.push(b'#');
    let told = Policy::parse(&filled).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(told.contains("it is larger than 1 MiB"), "{told}");

    let told = Policy::parse(&[right.as_bytes(), b"# \xff"].concat()).err().map(|error| error.to_string());
    assert!(told.is_some_and(|told| told.contains("line 4: this is not UTF-8")));
}
