//! `user` and `token`: accounts at the command line.

use super::{COMMAND_LINE, Ended, Outcome, Token, User, print};
use crate::access::audit::Entry;
use crate::access::secret::{hash_password, key_hash, new_token};
use crate::access::totp;
use crate::access::{Permission, Role, Use};
use crate::catalogue::Catalogue;
use crate::catalogue::model::Account;
use crate::clock;
use crate::config::Config;
use crate::id::Id;
use crate::web::{Limits, account_name, shown_grant};
use serde_json::json;
use std::io::Read;

fn password() -> Result<String, Ended> {
    let mut text = String::new();
    let read = std::io::stdin().take(4096).read_to_string(&mut text);
    read.map_err(|error| Ended::Failed(format!("the password can't be read: {error}")))?;
    hash_password(text.trim_end_matches(['\r', '\n'])).map_err(Ended::Usage)
}

/// Refuses changes that would let a person in past their provider.
async fn is_local(catalogue: &dyn Catalogue, name: &str) -> Outcome {
    let Some(account) = catalogue.account(name).await? else { return Ok(()) };
    match catalogue.identity(account.id).await? {
        Some(of) => Err(Ended::Failed(format!(
            "{name:?} is an account of {}, which alone lets them in: make another account, by \"user add\"",
            of.issuer
        ))),
        None => Ok(()),
    }
}

/// Looks after accounts.
pub(super) async fn people(catalogue: &dyn Catalogue, user: User, config: &Config) -> Outcome {
    let now_us = clock::now_us();
    let entry = |action, name: &str| Entry::new(now_us, COMMAND_LINE, action, name);
    let there_is_none = |name: &str| Err(Ended::Failed(format!("there is no account {name:?}")));
    match user {
        User::Add { name, role, extension, site, from, to, expires, password_stdin } => {
            let name = account_name(&name).map_err(Ended::Usage)?;
            let names: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
            let wrong = || Ended::Usage(format!("{role:?} is no role; there are {}", names.join(", ")));
            let role = Role::from_name(&role).ok_or_else(wrong)?;
            let mut uses = Vec::new();
            for number in &extension {
                let digits = crate::number::digits(number, config.site.country_code.as_deref());
                let extension = if digits.is_empty() { number.clone() } else { digits };
                let from_us = catalogue.extension_from(&extension, now_us).await?;
                uses.push(Use { extension, from_us, to_us: None });
            }
            let password = if password_stdin { Some(password()?) } else { None };
            let account = Account { id: Id::random(now_us), name, password, disabled: false };
            let limits = Limits { sites: site, from, to, expires };
            let grant = limits.grant(role, uses, &config.site.zone).map_err(Ended::Usage)?;
            let said = shown_grant(&grant);
            catalogue.add_account(&account, &grant, &entry("account.add", &account.name).with(&said)).await?;
            print(&format!("{} is there, as {}", account.name, role.name()));
            if !password_stdin {
                print("it has no password: set one with \"user passwd\", or make a token for it");
            }
            Ok(())
        }
        User::List => {
            let identities = catalogue.identities().await?;
            for (account, grants) in catalogue.accounts().await? {
                let roles = grants.iter().map(|grant| {
                    let extensions: Vec<&str> =
                        grant.uses.iter().map(|used| used.extension.as_str()).collect();
                    let mut text = format!("{} {}", grant.role.name(), extensions.join(","));
                    let limits = shown_grant(grant);
                    for limit in ["sites", "from", "to", "expires"] {
                        let is_set = !limits[limit].is_null() && limits[limit] != json!([]);
                        if is_set {
                            text.push_str(&format!(" {limit} {}", limits[limit]));
                        }
                    }
                    text
                });
                let roles = roles.collect::<Vec<_>>().join("; ");
                let state = if account.disabled { "  disabled" } else { "" };
                let of = identities.iter().find(|identity| identity.account == account.id);
                let of = of.map(|of| format!("  {} of {}", of.display, of.issuer)).unwrap_or_default();
                print(&format!("{:20} {}{state}{of}", account.name, roles.trim_end()));
            }
            Ok(())
        }
        User::Disable { name } => {
            if catalogue.disable(&name, &entry("account.disable", &name)).await? {
                return Ok(());
            }
            there_is_none(&name)
        }
        User::Totp { name, off } => {
            is_local(catalogue, &name).await?;
            let secret = (!off).then(totp::new_secret);
            let entry = entry("account.totp", &name).with(&json!({"on": !off}));
            if !catalogue.set_totp(&name, secret.as_ref().map(|secret| &secret[..]), &entry).await? {
                return there_is_none(&name);
            }
            if let Some(secret) = secret {
                print(&totp::uri(&secret, &name));
            }
            Ok(())
        }
        User::Passwd { name } => {
            is_local(catalogue, &name).await?;
            let hash = password()?;
            if catalogue.set_password(&name, &hash, &entry("account.password", &name)).await? {
                return Ok(());
            }
            there_is_none(&name)
        }
    }
}

/// Makes a token, and prints it once.
pub(super) async fn make_token(catalogue: &dyn Catalogue, token: Token) -> Outcome {
    let Token::Create { user, name, scope } = token;
    if let Some(wrong) = scope.iter().find(|name| Permission::from_name(name).is_none()) {
        let names = Permission::ALL.map(Permission::name).join(", ");
        return Err(Ended::Usage(format!("{wrong:?} is no permission; there are {names}")));
    }
    is_local(catalogue, &user).await?;
    let token = new_token();
    let said = json!({"name": name, "scope": scope});
    let entry = Entry::new(clock::now_us(), COMMAND_LINE, "token.create", &user).with(&said);
    catalogue.add_token(&user, &name, &key_hash(&token), &scope, &entry).await?;
    print(&token);
    Ok(())
}
