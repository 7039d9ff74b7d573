//! Which of a user's devices to unblock, where none is named: lists what there is, and asks.

use std::io;

use super::{
    args::UserArgs,
    client::{Client, TimeLimit},
    device_table::{choices, devices, is_blocked, is_locked},
    error::Error,
    exit::Exit,
    json, outcome,
    screen::Screen,
};
use crate::proto::v1::{Device, DeviceRef};

/// What came of it.
#[derive(Debug)]
pub(super) enum Chosen {
    /// These are to be unblocked.
    These(Vec<DeviceRef>),
    /// Nothing is: so the command ends.
    Nothing(Exit),
}

/// The user's devices, as PingOne lists them now.
///
/// # Errors
/// As [`Client::call`].
pub(super) async fn list(
    client: &Client,
    screen: &Screen,
    limit: TimeLimit,
    user: UserArgs,
) -> Result<Vec<Device>, Error> {
    let send = async |request| client.devices().list_user_devices(request).await;
    Ok(client.call(screen, limit, &user.to_proto(), send).await?.devices)
}

/// Has a person choose. Where nobody can be asked, prints what there is to choose from.
///
/// # Errors
/// [`Error::Usage`] where nobody can be asked.
pub(super) async fn choose(screen: &Screen, mut listed: Vec<Device>) -> Result<Chosen, Error> {
    let count = listed.len();
    listed.retain(|device| is_blocked(device) || is_locked(device));
    let blocked: Vec<DeviceRef> =
        listed.iter().filter(|device| is_blocked(device)).filter_map(|device| device.r#ref.clone()).collect();
    let asks = screen.asks() && !blocked.is_empty();
    if asks {
        screen.say(&choices(screen, &listed));
    } else if !listed.is_empty() {
        print(screen, &listed)?;
    }
    if listed.iter().any(is_locked) {
        outcome::note(screen, "a lock ends by itself, and no unblock lifts it");
    }
    if blocked.is_empty() {
        screen.say(&match count {
            0 => "the user has no device".to_owned(),
            1 => "the user's one device is not blocked: there is nothing to unblock".to_owned(),
            count => format!("none of the user's {count} devices is blocked: there is nothing to unblock"),
        });
        return Ok(Chosen::Nothing(Exit::Failed));
    }
    if !asks {
        return Err(Error::Usage("no terminal to ask on: give DEVICE, one of those listed".to_owned()));
    }
    loop {
        screen.draw("which one? its number, `all`, or Enter for none: ");
        match Picked::of(&line().await?, blocked.len()) {
            Picked::All => return Ok(Chosen::These(blocked)),
            Picked::One(index) => return Ok(Chosen::These(vec![blocked[index].clone()])),
            Picked::None => {
                screen.say("nothing was unblocked");
                return Ok(Chosen::Nothing(Exit::Failed));
            }
            Picked::Unclear => {
                screen.say(&format!("that is none of them: give 1 to {}, or `all`", blocked.len()))
            }
        }
    }
}

/// Prints devices as data. A reader that went away has seen enough.
///
/// # Errors
/// [`Error::Output`] when the output can not be written.
pub(super) fn print(screen: &Screen, listed: &[Device]) -> Result<(), Error> {
    let printed = if screen.is_json() {
        listed.iter().try_for_each(|device| screen.print_json(&json::device(device)))
    } else {
        screen.print(&devices(screen, listed))
    };
    match printed {
        Err(error) if error.is_closed_output() => Ok(()),
        other => other,
    }
}

/// What a person typed; nothing at the end of the input.
async fn line() -> Result<String, Error> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    read.await.map_err(Error::failed)?.map_err(Error::failed)
}

#[derive(Debug, PartialEq, Eq)]
enum Picked {
    All,
    One(usize),
    None,
    Unclear,
}

impl Picked {
    fn of(typed: &str, count: usize) -> Self {
        match typed.trim() {
            "" => Self::None,
            "all" => Self::All,
            number => match number.parse::<usize>() {
                Ok(number) if (1..=count).contains(&number) => Self::One(number - 1),
                _ => Self::Unclear,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_clear_is_picked() {
        for (typed, picked) in [
            ("", Picked::None),
            ("\n", Picked::None),
            (" 2 \n", Picked::One(1)),
            ("all\n", Picked::All),
            ("0\n", Picked::Unclear),
            ("3\n", Picked::Unclear),
            ("-1\n", Picked::Unclear),
            ("y\n", Picked::Unclear),
        ] {
            assert_eq!(Picked::of(typed, 2), picked, "{typed:?}");
        }
    }
}
