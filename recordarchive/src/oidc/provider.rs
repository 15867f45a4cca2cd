//! Requests to the provider, and checks of its answers.

use super::Settings;
use super::attempt::Attempt;
use super::person::{Said, Unfit, person};
use crate::catalogue::identity::Person;
use crate::client::{Client, is_https_or_local};
use crate::private;
use crate::time::SECOND_US;
use chrono::{DateTime, Utc};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim,
    CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse,
    CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, ClientId,
    ClientSecret, CsrfToken, DiscoveryError, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, HttpRequest, HttpResponse, IdToken, IdTokenClaims, IdTokenFields, IssuerUrl, Nonce,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, SignatureVerificationError,
    StandardErrorResponse, StandardTokenResponse, TokenResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::future::Future;
use std::io::{self, Read};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Mutex, Semaphore};

/// Where the provider sends browsers back to.
pub(crate) const CALLBACK: &str = "/login/oidc/callback";
/// Largest answer of the provider.
const MAX_ANSWER_OCTETS: usize = 1 << 20;
/// Largest file with a secret.
const MAX_SECRET_OCTETS: u64 = 4096;
/// Longest code that a browser brings.
const MAX_CODE_OCTETS: usize = 4096;
/// Age up to which the provider's description is used without another look.
const FRESH_US: i64 = 3600 * SECOND_US;
/// The same, while the provider does not answer.
const STALE_US: i64 = 24 * 3600 * SECOND_US;
/// Time after a failure until the provider is asked again.
const AGAIN_US: i64 = 5 * SECOND_US;
/// An unknown key is looked for in a new description if the known one is as old as this.
const KEYS_AGAIN_US: i64 = 10 * SECOND_US;
/// How far the provider's clock may be from this one.
const SKEW_US: i64 = 60 * SECOND_US;
/// How long ago a token may have been issued.
const MAX_TOKEN_AGE_US: i64 = 600 * SECOND_US;
/// Codes that are exchanged at once.
const EXCHANGES_AT_ONCE: usize = 16;

/// Signatures that a token may have. None by a shared secret, and never none.
const SIGNATURES: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// All claims that are not of the standard.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Claims {
    #[serde(flatten)]
    all: Map<String, Value>,
}

impl AdditionalClaims for Claims {}

type Token = IdToken<Claims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
type Fields = IdTokenFields<
    Claims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Party<HasTokenUrl = EndpointSet> = openidconnect::Client<
    Claims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    HasTokenUrl,
    EndpointMaybeSet,
>;

/// Why a person is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The provider can't be asked, for an administrator.
    Away(String),
    /// Too many log in at once.
    Busy,
    /// This browser did not begin it, or too long ago.
    NotBegun,
    /// The provider refused, in its words.
    Refused(String),
    /// The provider's answer does not hold, for an administrator.
    Untrue(String),
    /// The person has no place here.
    Unfit(Unfit),
}

/// The parameters that come back with the browser.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Back {
    /// The code for the token.
    pub(crate) code: Option<String>,
    /// The state of the attempt.
    pub(crate) state: Option<String>,
    /// Why there is no code.
    pub(crate) error: Option<String>,
    /// The same for a person.
    pub(crate) error_description: Option<String>,
    /// The issuer that sends the browser back (RFC 9207).
    pub(crate) iss: Option<String>,
}

/// The provider's description.
struct Known {
    party: Party,
    scopes: Vec<Scope>,
    keys: usize,
    asked_us: i64,
}

#[derive(Default)]
struct Cache {
    known: Option<Arc<Known>>,
    failed: Option<(i64, String)>,
}

/// The provider, as the archive knows it.
pub(crate) struct Provider {
    settings: Settings,
    secret: ClientSecret,
    redirect: RedirectUrl,
    client: Client,
    cache: Mutex<Cache>,
    /// Looks at the provider's description so far.
    looks: AtomicU64,
    exchanges: Semaphore,
}

impl Provider {
    /// That of the settings; `base_url` is the archive's address for browsers. Reads the secret, and asks
    /// nobody yet.
    ///
    /// # Errors
    /// A text for the administrator that names the file or setting.
    pub(crate) fn new(settings: Settings, base_url: &str) -> Result<Self, String> {
        let secret = ClientSecret::new(read_secret(&settings.secret_file)?);
        let redirect = RedirectUrl::new(format!("{base_url}{CALLBACK}"));
        let redirect = redirect.map_err(|error| format!("web.public_url: {error}"))?;
        let client = Client::new()?;
        client.may_ask(&settings.issuer).map_err(|error| format!("auth.oidc.issuer: {error}"))?;
        Ok(Self {
            settings,
            secret,
            redirect,
            client,
            cache: Mutex::default(),
            looks: AtomicU64::new(0),
            exchanges: Semaphore::new(EXCHANGES_AT_ONCE),
        })
    }

    /// The provider's URL, as it writes its issuer.
    pub(crate) fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// The host of the provider, for people.
    pub(crate) fn host(&self) -> &str {
        let rest = self.settings.issuer.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', ':']).next().unwrap_or_default()
    }

    /// The address of the provider's log-in for a browser.
    pub(crate) async fn begin(&self, attempt: &Attempt, now_us: i64) -> Result<String, Trouble> {
        let known = self.known(now_us, FRESH_US).await?;
        let (state, nonce) = (attempt.state(), attempt.nonce());
        let verifier = PkceCodeVerifier::new(attempt.verifier());
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let mut request = known
            .party
            .authorize_url(flow, || CsrfToken::new(state), || Nonce::new(nonce))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        for scope in &known.scopes {
            request = request.add_scope(scope.clone());
        }
        let (url, _, _) = request.url();
        Ok(url.into())
    }

    /// The person that came back.
    pub(crate) async fn finish(&self, attempt: &Attempt, back: Back, now_us: i64) -> Result<Person, Trouble> {
        if back.state.as_deref() != Some(&attempt.state()) {
            return Err(Trouble::NotBegun);
        }
        if let Some(iss) = back.iss.filter(|iss| *iss != self.settings.issuer) {
            return Err(Trouble::Untrue(shortened(&format!(
                "{iss:?} sends the browser back, not the provider"
            ))));
        }
        if let Some(error) = back.error {
            let said = back.error_description.unwrap_or_default();
            let said = [error, said].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
            return Err(Trouble::Refused(shortened(&said.join(": "))));
        }
        let code = back.code.filter(|code| !code.is_empty() && code.len() <= MAX_CODE_OCTETS);
        let Some(code) = code else {
            return Err(Trouble::Untrue("the browser comes back without a code".into()));
        };
        let Ok(_place) = self.exchanges.try_acquire() else { return Err(Trouble::Busy) };
        let mut known = self.known(now_us, STALE_US).await?;
        let token = self.exchange(&known, attempt, code).await?;
        let nonce = Nonce::new(attempt.nonce());
        let mut read = claims(&known.party, &token, &nonce, now_us);
        if matches!(&read, Err(error) if is_of_another_key(error)) {
            // The provider has a new key perhaps.
            known = self.known(now_us, KEYS_AGAIN_US).await?;
            read = claims(&known.party, &token, &nonce, now_us);
        }
        let claims =
            read.map_err(|error| Trouble::Untrue(shortened(&format!("the token does not hold: {error}"))))?;
        not_before(claims, now_us)?;
        let said = Said {
            subject: claims.subject(),
            user: claims.preferred_username().map(|user| user.as_str()),
            mail: claims.email().map(|mail| mail.as_str()),
            name: claims.name().and_then(|name| name.get(None)).map(|name| name.as_str()),
            claims: &claims.additional_claims().all,
        };
        person(&self.settings, &said).map_err(Trouble::Unfit)
    }

    async fn exchange(&self, known: &Known, attempt: &Attempt, code: String) -> Result<Token, Trouble> {
        let ask = asking(self.client.clone());
        let request = known.party.exchange_code(AuthorizationCode::new(code));
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(attempt.verifier()));
        let answer = request.request_async(&ask).await.map_err(|error| match error {
            RequestTokenError::Request(error) => Trouble::Away(error.to_string()),
            RequestTokenError::ServerResponse(said) => Trouble::Untrue(format!(
                "the provider does not take the code: {}",
                shortened(&said.to_string())
            )),
            // The unreadable text may have a token in it, and stays out of all messages.
            RequestTokenError::Parse(error, _) => {
                Trouble::Untrue(format!("the provider's answer can't be read at {}", error.path()))
            }
            RequestTokenError::Other(what) => Trouble::Untrue(shortened(&what)),
        })?;
        let none = || Trouble::Untrue("the provider's answer has no id_token".into());
        answer.id_token().cloned().ok_or_else(none)
    }

    /// The provider's description, as young as this if the provider answers.
    async fn known(&self, now_us: i64, fresh_us: i64) -> Result<Arc<Known>, Trouble> {
        let before = self.looks.load(Ordering::Relaxed);
        // One asks, the others wait for the answer.
        let mut cache = self.cache.lock().await;
        // A log-in that has waited for a failure takes it: else each in turn would wait for a failure of its
        // own.
        let has_waited = self.looks.load(Ordering::Relaxed) != before;
        // A clock that was set back makes everything old.
        let within = |at_us: i64, age_us: i64| (0..age_us).contains(&(now_us - at_us));
        if let Some(known) = cache.known.as_ref().filter(|known| within(known.asked_us, fresh_us)) {
            return Ok(Arc::clone(known));
        }
        let failed = cache.failed.as_ref().filter(|(at_us, _)| has_waited || within(*at_us, AGAIN_US));
        let why = match failed {
            Some((_, why)) => why.clone(),
            None => {
                let found = self.discover(now_us).await;
                self.looks.fetch_add(1, Ordering::Relaxed);
                match found {
                    Ok(known) => {
                        let known = Arc::new(known);
                        *cache = Cache { known: Some(Arc::clone(&known)), failed: None };
                        return Ok(known);
                    }
                    Err(why) => {
                        log::warn!("oidc: {}: {why}", self.settings.issuer);
                        cache.failed = Some((now_us, why.clone()));
                        why
                    }
                }
            }
        };
        let stale = cache.known.as_ref().filter(|known| within(known.asked_us, STALE_US));
        stale.map(Arc::clone).ok_or(Trouble::Away(why))
    }

    async fn discover(&self, now_us: i64) -> Result<Known, String> {
        let issuer = IssuerUrl::new(self.settings.issuer.clone()).map_err(|error| error.to_string())?;
        let ask = asking(self.client.clone());
        let said = CoreProviderMetadata::discover_async(issuer, &ask).await;
        let said = said.map_err(|error| match error {
            DiscoveryError::Request(error) => error.to_string(),
            DiscoveryError::Parse(error) => format!("its description can't be read: {error}"),
            DiscoveryError::Response(_, _, what)
            | DiscoveryError::Validation(what)
            | DiscoveryError::Other(what) => shortened(&what),
            error => error.to_string(),
        })?;
        let Some(token_url) = said.token_endpoint().cloned() else {
            return Err("it names no token_endpoint".into());
        };
        if !is_https_or_local(said.authorization_endpoint().as_str()) {
            return Err("its authorization_endpoint is not https://".into());
        }
        // Secret and groups as the provider takes them.
        let methods = said.token_endpoint_auth_methods_supported();
        let takes = |method| methods.is_some_and(|methods| methods.contains(&method));
        let is_post =
            takes(CoreClientAuthMethod::ClientSecretPost) && !takes(CoreClientAuthMethod::ClientSecretBasic);
        let auth = if is_post { AuthType::RequestBody } else { AuthType::BasicAuth };
        let offered = said.scopes_supported().cloned().unwrap_or_default();
        let wanted = ["profile", "email", &self.settings.groups_claim, &self.settings.extensions_claim];
        let mut scopes: Vec<Scope> = Vec::new();
        for scope in wanted.map(|name| Scope::new(name.into())) {
            let is_usual = scope.as_str() == "profile";
            if (is_usual || offered.contains(&scope)) && !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        let keys = said.jwks().keys().len();
        if keys == 0 {
            return Err("it has no keys that tokens can be checked with".into());
        }
        let client_id = ClientId::new(self.settings.client_id.clone());
        let party =
            Party::<EndpointMaybeSet>::from_provider_metadata(said, client_id, Some(self.secret.clone()))
                .set_token_uri(token_url)
                .set_auth_type(auth)
                .set_redirect_uri(self.redirect.clone());
        Ok(Known { party, scopes, keys, asked_us: now_us })
    }

    /// Whether the provider can be asked, for an administrator.
    ///
    /// # Errors
    /// It can't, and why.
    pub(crate) async fn check(&self, now_us: i64) -> Result<String, String> {
        match self.known(now_us, FRESH_US).await {
            Ok(known) => Ok(format!("{} key(s); it sends browsers back to {}", known.keys, *self.redirect)),
            Err(Trouble::Away(why)) => Err(why),
            Err(other) => Err(format!("{other:?}")),
        }
    }
}

/// The client for the provider. It borrows nothing, so that a waiting log-in may go from thread to thread.
fn asking(client: Client) -> impl Fn(HttpRequest) -> Answer {
    move |request| {
        let client = client.clone();
        Box::pin(async move {
            let url = request.uri().to_string();
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{url}: {error}"));
            if !is_https_or_local(&url) {
                return Err(named(io::Error::new(io::ErrorKind::InvalidInput, "https:// is wanted")));
            }
            client.send(request, MAX_ANSWER_OCTETS).await.map_err(named)
        })
    }
}

type Answer = Pin<Box<dyn Future<Output = io::Result<HttpResponse>> + Send>>;
type Verified<'t> = &'t IdTokenClaims<Claims, CoreGenderClaim>;

/// The claims of a token that is for this archive and this attempt, signed and of now.
fn claims<'t>(
    party: &Party,
    token: &'t Token,
    nonce: &Nonce,
    now_us: i64,
) -> Result<Verified<'t>, ClaimsVerificationError> {
    let at = |us: i64| DateTime::<Utc>::from_timestamp_micros(us).unwrap_or_default();
    let issued = move |issued: DateTime<Utc>| {
        let age_us = now_us - issued.timestamp_micros();
        if (-SKEW_US..=MAX_TOKEN_AGE_US).contains(&age_us) {
            Ok(())
        } else {
            Err(format!("issued {} s ago: compare the clocks", age_us / SECOND_US))
        }
    };
    let verifier = party
        .id_token_verifier()
        .set_allowed_algs(SIGNATURES)
        .set_time_fn(move || at(now_us - SKEW_US))
        .set_issue_time_verifier_fn(issued);
    token.claims(&verifier, nonce)
}

fn is_of_another_key(error: &ClaimsVerificationError) -> bool {
    use SignatureVerificationError as S;
    matches!(error, ClaimsVerificationError::SignatureVerification(S::NoMatchingKey | S::CryptoError(_)))
}

/// Refuses a token that is not good yet.
fn not_before(claims: Verified<'_>, now_us: i64) -> Result<(), Trouble> {
    let from_s = claims.additional_claims().all.get("nbf").and_then(Value::as_f64);
    #[allow(clippy::cast_precision_loss, reason = "half a second does not matter")]
    let latest_s = (now_us + SKEW_US) as f64 / 1e6;
    match from_s {
        Some(from_s) if from_s > latest_s => Err(Trouble::Untrue("the token is not good yet".into())),
        _ => Ok(()),
    }
}

/// The secret in a file that is its owner's alone.
fn read_secret(path: &Path) -> Result<String, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let hint = "auth.oidc.client_secret_file is to have the client secret from the provider";
    let file = private::open(path, hint)?;
    let mut text = String::new();
    let read = file.take(MAX_SECRET_OCTETS).read_to_string(&mut text);
    read.map_err(|error| told(&error))?;
    match text.trim() {
        "" => Err(told(&format!("it is empty; {hint}"))),
        secret => Ok(secret.to_owned()),
    }
}

/// A text of the provider, for a log or a page.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
