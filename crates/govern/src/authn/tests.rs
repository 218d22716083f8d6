use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};
use setpoint_pki::{PeerIdentity, TokenKey};

use super::*;
use crate::{
    authz::{Authorizer, PolicyRule},
    user::CREDENTIAL_ID,
};

static KEY: LazyLock<TokenKey> = LazyLock::new(|| TokenKey::generate().expect("key"));

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().expect("time")
}

fn peer(user: &str) -> PeerIdentity {
    PeerIdentity {
        user: user.to_owned(),
        groups: vec!["devs".to_owned()],
        fingerprint: "ab".to_owned(),
        not_before: now() - Duration::from_secs(60),
        not_after: now() + Duration::from_secs(60),
    }
}

fn tokens(key: &TokenKey) -> Arc<ServiceAccountTokens> {
    let accounts = |namespace: &str, name: &str| (namespace == "ns" && name == "bot").then(|| "uid-1".to_owned());
    Arc::new(ServiceAccountTokens::new(key, [], Arc::new(accounts)).expect("tokens"))
}

fn request() -> TokenRequest<'static> {
    TokenRequest {
        namespace: "ns",
        name: "bot",
        uid: "uid-1",
        audiences: vec![],
        expiration_seconds: 3600,
    }
}

fn chain() -> Authentication {
    let file = TokenFile::default().with("t0ken", UserInfo::new("admin", ["system:masters"]));
    Authentication::new()
        .with(ClientCertificates)
        .with(file)
        .with(tokens(&KEY))
}

fn bearer(token: &str) -> Result<UserInfo, Refused> {
    let header = format!("Bearer {token}");
    chain().authenticate(
        &Credentials {
            peer: None,
            authorization: Some(header.as_bytes()),
        },
        now(),
    )
}

#[test]
fn the_first_credential_that_is_good_wins() {
    let chain = chain();
    let ann = peer("ann");
    let ask = |peer, authorization: Option<&'static str>| {
        let authorization = authorization.map(str::as_bytes);
        chain.authenticate(&Credentials { peer, authorization }, now())
    };
    assert_eq!(ask(None, None).expect("nobody"), UserInfo::anonymous());
    let known = ask(Some(&ann), None).expect("certificate");
    assert_eq!(
        (known.name.as_str(), known.groups.as_slice()),
        ("ann", ["devs".to_owned(), AUTHENTICATED.to_owned()].as_slice())
    );
    assert_eq!(known.extra[CREDENTIAL_ID], ["X509SHA256=ab"]);
    let token = ask(None, Some("bearer  t0ken ")).expect("token");
    assert_eq!((token.name.as_str(), token.is_in(AUTHENTICATED)), ("admin", true));
    assert_eq!(ask(Some(&ann), Some("Bearer t0ken")).expect("both").name, "ann");
}

#[test]
fn a_bad_credential_is_refused_and_never_anonymous() {
    let chain = chain();
    for header in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Basic YTpi",
        "t0ken",
        "Bearer t0ken extra",
        "Bearer a.b.c",
        "Bearer ..",
        "\u{fffd}",
    ] {
        let credentials = Credentials {
            peer: None,
            authorization: Some(header.as_bytes()),
        };
        assert!(chain.authenticate(&credentials, now()).is_err(), "{header:?}");
    }
    let credentials = Credentials {
        peer: None,
        authorization: Some(b"Bearer \xff"),
    };
    assert!(chain.authenticate(&credentials, now()).is_err());
    bearer(&"x".repeat(MAX_TOKEN_BYTES + 1)).expect_err("too long");

    // A certificate that expired while its connection stayed open.
    let ann = peer("ann");
    let credentials = Credentials {
        peer: Some(&ann),
        authorization: None,
    };
    for late in [Duration::from_secs(61), Duration::from_secs(3600)] {
        chain.authenticate(&credentials, now() + late).expect_err("expired");
    }
    let refused = chain.authenticate(&credentials, now() - Duration::from_secs(61));
    assert_eq!(
        Status::from(refused.expect_err("not yet valid")),
        Status::unauthorized()
    );
}

#[test]
fn a_service_account_is_known_by_the_token_that_we_issued() {
    let issued = tokens(&KEY).issue(&request(), now()).expect("issue");
    assert_eq!(issued.expiration, now() + Duration::from_secs(3600));
    let user = bearer(&issued.token).expect("known");
    let expected = UserInfo::service_account("ns", "bot", "uid-1");
    assert_eq!(
        (&user.name, &user.uid, &user.groups),
        (&expected.name, &expected.uid, &expected.groups)
    );
    assert!(user.extra[CREDENTIAL_ID][0].starts_with("JTI="));

    let claims = payload(&issued.token);
    assert_eq!(
        claims["kubernetes.io"],
        json!({"namespace": "ns", "serviceaccount": {"name": "bot", "uid": "uid-1"}})
    );
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!([ISSUER])));

    let too_short = TokenRequest {
        expiration_seconds: 599,
        ..request()
    };
    assert!(matches!(
        tokens(&KEY).issue(&too_short, now()),
        Err(TokenError::TooShort)
    ));
    let too_long = TokenRequest {
        expiration_seconds: MAX_EXPIRATION_SECONDS + 1,
        ..request()
    };
    assert!(matches!(tokens(&KEY).issue(&too_long, now()), Err(TokenError::TooLong)));
}

fn part(token: &str, index: usize) -> &str {
    token.split('.').nth(index).expect("part")
}

fn payload(token: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(part(token, 1)).expect("base64");
    serde_json::from_slice(&bytes).expect("json")
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token with these claims and header, signed with our key.
fn signed(change: impl FnOnce(&mut Value, &mut jsonwebtoken::Header)) -> String {
    let mut claims = payload(&tokens(&KEY).issue(&request(), now()).expect("issue").token);
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    change(&mut claims, &mut header);
    let key = jsonwebtoken::EncodingKey::from_ec_pem(KEY.private_pem().as_bytes()).expect("key");
    jsonwebtoken::encode(&header, &claims, &key).expect("encode")
}

#[test]
fn forged_and_stale_tokens_are_refused() {
    let good = tokens(&KEY).issue(&request(), now()).expect("issue").token;
    bearer(&good).expect("the control");
    bearer(&signed(|_, _| {})).expect("the control, made by hand");
    let (header, body, signature) = (part(&good, 0), part(&good, 1), part(&good, 2));

    let none = encoded(&json!({"alg": "none", "typ": "JWT"}));
    let hmac_header = encoded(&json!({"alg": "HS256"}));
    let hmac_key = jsonwebtoken::EncodingKey::from_secret(KEY.public_pem().as_bytes());
    let hmac = jsonwebtoken::crypto::sign(
        format!("{hmac_header}.{body}").as_bytes(),
        &hmac_key,
        jsonwebtoken::Algorithm::HS256,
    )
    .expect("hmac");
    let mut other = payload(&good);
    other["kubernetes.io"]["serviceaccount"]["name"] = "root".into();
    let foreign = tokens(&TokenKey::generate().expect("key"));
    let issue = |change: fn(&mut TokenRequest<'static>)| {
        let mut request = request();
        change(&mut request);
        tokens(&KEY).issue(&request, now()).expect("issue").token
    };
    let refused = [
        ("alg none, no signature", format!("{none}.{body}.")),
        ("alg none, old signature", format!("{none}.{body}.{signature}")),
        ("public key as HMAC secret", format!("{hmac_header}.{body}.{hmac}")),
        ("no signature", format!("{header}.{body}.")),
        ("two parts", format!("{header}.{body}")),
        ("four parts", format!("{good}.x")),
        ("truncated", good[..good.len() - 10].to_owned()),
        (
            "zero signature",
            format!("{header}.{body}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        ),
        ("changed claims", format!("{header}.{}.{signature}", encoded(&other))),
        ("another key", foreign.issue(&request(), now()).expect("issue").token),
        ("another audience", issue(|r| r.audiences = vec!["vault".into()])),
        ("an account that is not there", issue(|r| r.name = "gone")),
        ("an account that was made again", issue(|r| r.uid = "uid-0")),
        (
            "another issuer",
            signed(|claims, _| claims["iss"] = "https://elsewhere".into()),
        ),
        (
            "no expiry",
            signed(|claims, _| {
                claims.as_object_mut().expect("map").remove("exp");
            }),
        ),
        ("expired", signed(|claims, _| claims["exp"] = now().as_second().into())),
        (
            "not valid yet",
            signed(|claims, _| claims["nbf"] = (now().as_second() + 61).into()),
        ),
        (
            "another subject",
            signed(|claims, _| claims["sub"] = "system:admin".into()),
        ),
        (
            "no account",
            signed(|claims, _| {
                claims.as_object_mut().expect("map").remove("kubernetes.io");
            }),
        ),
        (
            "critical extension",
            signed(|_, header| header.crit = Some(vec!["exp".into()])),
        ),
    ];
    for (what, token) in refused {
        assert!(bearer(&token).is_err(), "{what}");
    }
}

#[test]
fn a_remembered_token_is_still_checked() {
    static EXISTS: AtomicBool = AtomicBool::new(true);
    let accounts = |_: &str, _: &str| EXISTS.load(Ordering::SeqCst).then(|| "uid-1".to_owned());
    let tokens = ServiceAccountTokens::new(&KEY, [], Arc::new(accounts)).expect("tokens");
    let token = tokens.issue(&request(), now()).expect("issue").token;
    let known = |at| matches!(tokens.review(&token, &[], at), Outcome::Known(_));
    assert!(known(now()) && known(now() + Duration::from_secs(3599)));
    assert!(!known(now() + Duration::from_secs(3600)), "expired");
    assert!(matches!(
        tokens.review(&token, &["vault".to_owned()], now()),
        Outcome::Refused(_)
    ));
    EXISTS.store(false, Ordering::SeqCst);
    assert!(!known(now()), "the account is gone");
}

#[test]
fn the_published_key_verifies_what_we_sign() {
    let tokens = tokens(&KEY);
    let token = tokens.issue(&request(), now()).expect("issue").token;
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(tokens.jwks()).expect("JWKS");
    let kid = jsonwebtoken::decode_header(&token).expect("header").kid.expect("kid");
    let key = jsonwebtoken::DecodingKey::from_jwk(set.find(&kid).expect("key")).expect("key");
    let message = token.rsplit_once('.').expect("parts").0;
    let verified = jsonwebtoken::crypto::verify(
        part(&token, 2),
        message.as_bytes(),
        &key,
        jsonwebtoken::Algorithm::ES256,
    );
    assert!(verified.expect("verify"));
}

#[test]
fn impersonation_needs_a_right_for_each_part() {
    let rbac = Authorizer::new();
    let rules = [
        PolicyRule::resources(&["impersonate"], &[""], &["users"]).named(&["jane", ANONYMOUS_NAME]),
        PolicyRule::resources(&["impersonate"], &[""], &["groups"]).named(&["devs"]),
        PolicyRule::resources(
            &["impersonate"],
            &["authentication.k8s.io"],
            &["userextras/scopes", "uids"],
        ),
        PolicyRule::resources(&["impersonate"], &[""], &["serviceaccounts"]),
    ];
    rbac.upsert(&json!({"kind": "ClusterRole", "metadata": {"name": "imp"}, "rules": rules}));
    rbac.upsert(&json!({"kind": "ClusterRoleBinding", "metadata": {"name": "imp"},
        "roleRef": {"kind": "ClusterRole", "name": "imp"}, "subjects": [{"kind": "User", "name": "proxy"}]}));
    let act = |requester: &str, headers: &[(&str, &str)]| {
        let requester = UserInfo::new(requester, [AUTHENTICATED]);
        let wanted = Impersonation::from_headers(headers.iter().copied())?;
        wanted.map(|wanted| wanted.authorize(&requester, &rbac)).transpose()
    };
    let user = ("Impersonate-User", "jane");
    assert_eq!(act("proxy", &[("accept", "x")]).expect("not asked"), None);
    let jane = act(
        "proxy",
        &[
            user,
            ("Impersonate-Group", "devs"),
            ("Impersonate-Uid", "7"),
            ("Impersonate-Extra-Sco%70es", "a"),
            ("impersonate-extra-scopes", "b"),
        ],
    )
    .expect("allowed")
    .expect("asked");
    assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("jane", "7"));
    assert_eq!(jane.groups, ["devs", AUTHENTICATED]);
    assert_eq!(jane.extra["scopes"], ["a", "b"]);

    let account = act("proxy", &[("impersonate-user", "system:serviceaccount:ns:bot")]).expect("allowed");
    assert_eq!(
        account.expect("asked").groups,
        UserInfo::service_account("ns", "bot", "").groups
    );
    let nobody = act("proxy", &[("impersonate-user", ANONYMOUS_NAME)])
        .expect("allowed")
        .expect("asked");
    assert_eq!(nobody, UserInfo::anonymous());

    for (requester, headers, code) in [
        ("proxy", vec![("impersonate-user", "root")], 403),
        ("proxy", vec![user, ("impersonate-group", "system:masters")], 403),
        ("proxy", vec![user, ("impersonate-extra-other", "a")], 403),
        ("someone", vec![user], 403),
        ("proxy", vec![("impersonate-group", "devs")], 400),
        ("proxy", vec![("impersonate-user", "")], 400),
        ("proxy", vec![user, user], 400),
        ("proxy", vec![user, ("impersonate-users", "x")], 400),
        ("proxy", vec![("impersonate-group", "devs"); MAX_IMPERSONATED + 1], 400),
    ] {
        assert_eq!(act(requester, &headers).expect_err("refused").code, code, "{headers:?}");
    }
}

const ANONYMOUS_NAME: &str = crate::user::ANONYMOUS;
const MAX_IMPERSONATED: usize = impersonation::MAX_VALUES;
