//! A provider in the process of the test: it signs tokens with keys that it makes, and lies where it is told
//! to.

use super::super::{GroupRole, Settings};
use crate::access::Role;
use crate::client::Client;
use crate::id::{hex, random_octets};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use openidconnect::core::{CoreJwsSigningAlgorithm, CoreRsaPrivateSigningKey};
use openidconnect::{JsonWebKeyId, PrivateSigningKey};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use recfile::seal::base64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Semaphore;

pub(crate) const SECRET: &str = "a secret: of 30 % & more / +";

/// A key that signs, of one kind or the other.
pub(crate) enum Key {
    Es256(SigningKey),
    Rs256(Box<CoreRsaPrivateSigningKey>),
}

impl Key {
    pub(crate) fn es256() -> Self {
        Self::Es256(SigningKey::from_slice(&random_octets::<32>()).unwrap())
    }

    pub(crate) fn rs256() -> Self {
        let made = Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output().unwrap();
        let pem = String::from_utf8(made.stdout).unwrap();
        let key = CoreRsaPrivateSigningKey::from_pem(&pem, Some(JsonWebKeyId::new("r".into())));
        Self::Rs256(Box::new(key.unwrap()))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
        }
    }

    /// The public half, under this id.
    fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Es256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                let octets = point.as_bytes();
                let (x, y) = (coded(&octets[1..33]), coded(&octets[33..]));
                json!({"kty": "EC", "use": "sig", "crv": "P-256", "kid": kid, "x": x, "y": y})
            }
            Self::Rs256(key) => {
                let mut jwk = serde_json::to_value(key.as_verification_key()).unwrap();
                jwk["kid"] = json!(kid);
                jwk
            }
        }
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        match self {
            Self::Es256(key) => {
                let signature: Signature = key.sign(text.as_bytes());
                signature.to_bytes().to_vec()
            }
            Self::Rs256(key) => {
                key.sign(&CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256, text.as_bytes()).unwrap()
            }
        }
    }
}

/// Base64 as tokens have it.
fn coded(octets: &[u8]) -> String {
    base64::encode(octets).replace('+', "-").replace('/', "_")
}

/// A fault of the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lie {
    #[default]
    None,
    WrongNonce,
    NoNonce,
    OtherAudience,
    TwoAudiences,
    OtherIssuer,
    Expired,
    Future,
    Old,
    NotYet,
    OtherKey,
    ChangedClaims,
    AlgNone,
    SharedSecret,
    NoToken,
    NoJson,
}

/// The request of a code.
struct Asked {
    challenge: String,
    nonce: String,
    redirect: String,
}

pub(crate) struct Inner {
    pub(crate) issuer: String,
    pub(crate) key: Key,
    pub(crate) kid: &'static str,
    pub(crate) claims: Value,
    pub(crate) lie: Lie,
    /// Answers everything with 503.
    pub(crate) away: bool,
    /// Sends browsers back with this error.
    pub(crate) error: Option<&'static str>,
    /// Codes are good more than once.
    pub(crate) forgets: bool,
    /// Whether it takes the secret in the body alone.
    pub(crate) secret_in_body: bool,
    /// Looks at the description.
    pub(crate) described: u32,
    /// The time by which tokens are issued, in seconds.
    pub(crate) now_s: Option<i64>,
    /// Descriptions wait for a permit of it.
    pub(crate) gate: Option<Arc<Semaphore>>,
    codes: HashMap<String, Asked>,
}

/// The provider.
#[derive(Clone)]
pub(crate) struct Peer {
    inner: Arc<Mutex<Inner>>,
    pub(crate) addr: SocketAddr,
}

impl Peer {
    /// One that listens on this machine.
    pub(crate) async fn start(key: Key) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let inner = Inner {
            issuer: format!("http://{addr}/realm"),
            key,
            kid: "one",
            claims: json!({
                "sub": "f:1", "preferred_username": "anna", "name": "Anna Müller", "groups": ["leads", "staff"],
            }),
            lie: Lie::None,
            away: false,
            error: None,
            forgets: false,
            secret_in_body: false,
            described: 0,
            now_s: None,
            gate: None,
            codes: HashMap::new(),
        };
        let peer = Self { inner: Arc::new(Mutex::new(inner)), addr };
        let routes = Router::new()
            .route("/realm/.well-known/openid-configuration", get(describe))
            .route("/realm/keys", get(keys))
            .route("/realm/authorize", get(authorize))
            .route("/realm/token", post(token))
            .with_state(peer.clone());
        tokio::spawn(axum::serve(listener, routes).into_future());
        peer
    }

    pub(crate) fn set(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Settings that name it, with the secret in a file of this folder.
    pub(crate) fn settings(&self, folder: &Path) -> Settings {
        let secret_file = folder.join("oidc.secret");
        std::fs::write(&secret_file, format!("{SECRET}\n")).unwrap();
        std::fs::set_permissions(&secret_file, PermissionsExt::from_mode(0o600)).unwrap();
        let of = |group: &str, role| GroupRole { group: group.into(), role, extensions: Vec::new() };
        Settings {
            issuer: self.set().issuer.clone(),
            client_id: "archive".into(),
            secret_file,
            groups_claim: "groups".into(),
            extensions_claim: "ext".into(),
            roles: vec![
                of("leads", Role::Supervisor),
                of("desk", Role::Agent),
                of("admins", Role::Admin),
                of("legal", Role::Compliance),
            ],
        }
    }

    /// Where it sends a browser back to that came to `url`, as path and query.
    pub(crate) async fn visit(&self, url: &str) -> String {
        let request = Request::get(url).body(Vec::new()).unwrap();
        let answer = Client::new().unwrap().send(request, 1000).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FOUND, "{url}");
        let uri: Uri = answer.headers()[header::LOCATION].to_str().unwrap().parse().unwrap();
        uri.path_and_query().unwrap().to_string()
    }
}

async fn describe(State(peer): State<Peer>) -> Response {
    let gate = {
        let mut inner = peer.set();
        inner.described += 1;
        inner.gate.clone()
    };
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
    let inner = peer.set();
    if inner.away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let issuer = &inner.issuer;
    let method = if inner.secret_in_body { "client_secret_post" } else { "client_secret_basic" };
    Json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "none", "HS256"],
        "scopes_supported": ["openid", "profile", "groups"],
        "token_endpoint_auth_methods_supported": [method],
    }))
    .into_response()
}

async fn keys(State(peer): State<Peer>) -> Json<Value> {
    let inner = peer.set();
    // Beside the key there is one of a kind that nobody knows, and one that does not sign.
    let odd = json!({"kty": "XY", "kid": "odd"});
    Json(json!({"keys": [odd, inner.key.jwk(inner.kid)]}))
}

async fn authorize(State(peer): State<Peer>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let mut inner = peer.set();
    let of = |name: &str| asked.get(name).cloned().unwrap_or_default();
    for (name, value) in
        [("response_type", "code"), ("client_id", "archive"), ("code_challenge_method", "S256")]
    {
        assert_eq!(of(name), value, "{name}");
    }
    assert_eq!(of("scope"), "openid profile groups");
    assert!(of("state").len() >= 32 && of("nonce").len() >= 32 && of("code_challenge").len() == 43);
    let back = of("redirect_uri");
    let (state, issuer) = (of("state"), inner.issuer.replace(':', "%3A").replace('/', "%2F"));
    let location = match inner.error {
        Some(error) => format!("{back}?error={error}&error_description=not+%3Cyou%3E&state={state}"),
        None => {
            let code = hex(&random_octets::<16>());
            let asked = Asked { challenge: of("code_challenge"), nonce: of("nonce"), redirect: back.clone() };
            inner.codes.insert(code.clone(), asked);
            format!("{back}?code={code}&state={state}&iss={issuer}")
        }
    };
    (StatusCode::FOUND, [(header::LOCATION, location)]).into_response()
}

async fn token(State(peer): State<Peer>, headers: HeaderMap, body: String) -> Response {
    let mut inner = peer.set();
    let refused = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response();
    let uri: Uri = format!("http://form/?{body}").parse().unwrap();
    let Query(form) = Query::<HashMap<String, String>>::try_from_uri(&uri).unwrap();
    let of = |name: &str| form.get(name).cloned().unwrap_or_default();
    let is_known = if inner.secret_in_body {
        headers.get(header::AUTHORIZATION).is_none() && of("client_secret") == SECRET
    } else {
        // Both parts are coded as those of a form, before they are put together.
        let coded = "archive:a+secret%3A+of+30+%25+%26+more+%2F+%2B";
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
            == Some(&format!("Basic {}", base64::encode_padded(coded.as_bytes())))
            && of("client_secret").is_empty()
    };
    if !is_known {
        return refused("invalid_client");
    }
    let asked = if inner.forgets {
        inner
            .codes
            .get(&of("code"))
            .map(|asked| (asked.challenge.clone(), asked.nonce.clone(), asked.redirect.clone()))
    } else {
        inner.codes.remove(&of("code")).map(|asked| (asked.challenge, asked.nonce, asked.redirect))
    };
    let Some((challenge, nonce, redirect)) = asked else { return refused("invalid_grant") };
    if coded(&Sha256::digest(of("code_verifier"))) != challenge || of("redirect_uri") != redirect {
        return refused("invalid_grant");
    }
    match inner.lie {
        Lie::NoJson => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            return (json, "{\"access_token\": \"secret-token\", ").into_response();
        }
        Lie::NoToken => return Json(json!({"access_token": "a", "token_type": "Bearer"})).into_response(),
        _ => {}
    }
    let token = inner.token(&nonce);
    Json(json!({"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": token}))
        .into_response()
}

impl Inner {
    /// A token, with its fault.
    fn token(&self, nonce: &str) -> String {
        let now_s = self.now_s.unwrap_or_else(|| crate::clock::now_us() / 1_000_000);
        let mut claims = self.claims.clone();
        let said = json!({
            "iss": self.issuer, "aud": "archive", "exp": now_s + 300, "iat": now_s, "nonce": nonce,
        });
        for (name, value) in said.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let mut header = json!({"alg": self.key.name(), "kid": self.kid, "typ": "JWT"});
        match self.lie {
            Lie::WrongNonce => claims["nonce"] = json!("another"),
            Lie::NoNonce => drop(claims.as_object_mut().unwrap().remove("nonce")),
            Lie::OtherAudience => claims["aud"] = json!("another"),
            Lie::TwoAudiences => claims["aud"] = json!(["archive", "another"]),
            Lie::OtherIssuer => claims["iss"] = json!("https://another.example"),
            Lie::Expired => (claims["iat"], claims["exp"]) = (json!(now_s - 400), json!(now_s - 100)),
            Lie::Future => claims["iat"] = json!(now_s + 100),
            Lie::Old => claims["iat"] = json!(now_s - 700),
            Lie::NotYet => claims["nbf"] = json!(now_s + 100),
            Lie::AlgNone => header = json!({"alg": "none"}),
            Lie::SharedSecret => header["alg"] = json!("HS256"),
            _ => {}
        }
        let text = |value: &Value| coded(value.to_string().as_bytes());
        let signed = format!("{}.{}", text(&header), text(&claims));
        let signature = match self.lie {
            Lie::AlgNone => Vec::new(),
            Lie::OtherKey => Key::es256().sign(&signed),
            Lie::SharedSecret => {
                use hmac::{Hmac, KeyInit, Mac};
                let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
                mac.update(signed.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
            _ => self.key.sign(&signed),
        };
        if self.lie == Lie::ChangedClaims {
            claims["groups"] = json!(["admins"]);
            return format!("{}.{}.{}", text(&header), text(&claims), coded(&signature));
        }
        format!("{signed}.{}", coded(&signature))
    }
}
