//! `serve`: the web server, and the tasks beside it, until a signal ends both.

use super::{COMMAND_LINE, Ended, Outcome, at_rest, note, open, print, told};
use crate::access::audit::Entry;
use crate::access::secret::{key_hash, new_key};
use crate::catalogue::Catalogue;
use crate::clock;
use crate::config::Config;
use crate::jobs::checkpoint::{self, Checkpoints, SecondPlace};
use crate::jobs::intake::{Counts, Intake};
use crate::jobs::live::{Begun, Watch};
use crate::jobs::room::Room;
use crate::jobs::status::Status;
use crate::jobs::waves::{self, Waves};
use crate::jobs::webhook::Webhook;
use crate::jobs::{deletion, export, holds};
use crate::media::derived::Store;
use crate::oidc::provider::Provider;
use crate::time::SECOND_US;
use crate::web::{self, App};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The interval between looks at a journal.
const JOURNAL_EVERY: Duration = Duration::from_millis(250);
/// The interval between looks for running recordings.
const LIVE_EVERY: Duration = Duration::from_secs(1);
/// The interval between comparisons of folders and catalogue.
const RECONCILE_EVERY: Duration = Duration::from_secs(60);
/// The interval between checkpoints of the audit log, if anything happened.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// The time for which the set-up link is valid.
const SETUP_US: i64 = 3600 * SECOND_US;
/// The time that requests may go on once the server is told to end.
const DRAIN: Duration = Duration::from_secs(10);
/// Serves until a signal.
pub(super) async fn serve(mut config: Config) -> Outcome {
    let vault = at_rest::vault(&config)?;
    let catalogue = open(&config).await?;
    let listener = tokio::net::TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|error| Ended::Failed(format!("{}: {error}", config.listen)))?;
    if let Ok(addr) = listener.local_addr() {
        config.listen = addr;
    }
    let entry = |action| Entry::new(clock::now_us(), COMMAND_LINE, action, env!("CARGO_PKG_VERSION"));
    catalogue.log(&[entry("start"), settings_entry(&config)]).await?;
    let acceptor = match &config.tls {
        Some((cert, key)) => Some(web::tls::read(cert, key).map_err(Ended::Usage)?),
        None => None,
    };
    let provider = config.oidc.clone().map(|settings| Provider::new(settings, &config.base_url()));
    let provider = provider.transpose().map_err(Ended::Usage)?;
    let hooks = config.hooks.iter().cloned().map(Webhook::new).collect::<Result<Vec<_>, _>>();
    let hooks = hooks.map_err(Ended::Usage)?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    print(&format!("recordarchive listens on {scheme}://{}", config.listen));
    if catalogue.totals().await?.accounts == 0 {
        let key = new_key();
        catalogue.offer_setup(&key_hash(&key), clock::now_us() + SETUP_US).await?;
        print(&format!("make the first account within an hour: {}/setup?key={key}", config.base_url()));
    }
    let app = App::made_of(Arc::clone(&catalogue), config.clone(), vault.clone(), provider);
    let derived = Store::new(&config.data).with_vault(vault.clone());
    let mut tasks = tokio::task::JoinSet::new();
    let (waves, wanted) = Waves::queue();
    tasks.spawn(waves::make(Arc::clone(&catalogue), derived.clone(), wanted));
    for root in &config.intakes {
        let intake = Intake::new(Arc::clone(&catalogue), config.site.clone(), root.clone());
        let status = config.statuses.get(root).and_then(|text| Status::parse(text));
        let live = Watch::new(app.live(), app.events(), config.site.clone(), root.clone(), status);
        tasks.spawn(watch_live(live.knowing(begun(Arc::clone(&catalogue)))));
        let intake = intake.telling(app.events());
        // A recording that is to be encrypted gets its wave then.
        tasks.spawn(watch(if vault.encrypts() { intake } else { intake.with_waves(waves.clone()) }));
    }
    if vault.encrypts() {
        at_rest::check_keys(&*catalogue, &vault).await?;
        let own = Intake::of_encrypted(Arc::clone(&catalogue), config.site.clone(), config.media());
        tasks.spawn(watch(own.with_vault(vault.clone())));
        tasks.spawn(at_rest::encrypt(Arc::clone(&catalogue), vault.clone(), config.media(), derived.clone()));
    }
    let keys = config.keys();
    let exports = export::run(
        Arc::clone(&catalogue),
        config.data.clone(),
        config.site.name.clone(),
        move || checkpoint::key(&keys),
        vault,
    );
    tasks.spawn(exports);
    tasks.spawn(watch_heard(Arc::clone(&app)));
    tasks.spawn(holds::watch(Arc::clone(&catalogue)));
    let folders: Vec<_> = config.folders().map(|(path, _)| path.clone()).collect();
    let roots = std::iter::once(config.media()).chain(config.intakes.iter().cloned()).collect();
    tasks.spawn(deletion::watch(Arc::clone(&catalogue), derived, roots));
    tasks.spawn(watch_room(Room::new(folders, app.events())));
    for hook in hooks {
        tasks.spawn(hook.run(Arc::clone(&catalogue), app.events()));
    }
    let key = checkpoint::key(&config.keys()).map_err(Ended::Failed)?;
    let second = config.checkpoints.clone().map(SecondPlace::new);
    let checkpoints = Checkpoints::new(Arc::clone(&catalogue), key, second);
    let (told, mut ends) = tokio::sync::watch::channel(false);
    let checkpoint_task = tokio::spawn(watch_checkpoints(checkpoints, told.subscribe()));
    let ended = async move {
        let _ = ends.wait_for(|end| *end).await;
    };
    let routes = web::routes(Arc::clone(&app));
    let mut server = match acceptor {
        Some(acceptor) => {
            let listener = web::tls::TlsListener::new(listener, acceptor);
            let listener = listener.map_err(|error| Ended::Failed(error.to_string()))?;
            tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(ended).into_future())
        }
        None => tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(ended).into_future()),
    };
    // Without a watchdog: /readyz tells of a database or disk that stands still.
    let mut manager = os::notify::Notifier::from_environment();
    manager.ready(media::time::Mono::default());
    tokio::select! {
        () = signalled() => {}
        ended = &mut server => return Err(Ended::Failed(format!("the web server ended: {ended:?}"))),
    }
    manager.stopping();
    let _ = told.send(true);
    app.end();
    tasks.shutdown().await;
    if tokio::time::timeout(DRAIN, &mut server).await.is_err() {
        server.abort();
    }
    app.log_heard(true).await;
    catalogue.log(&[entry("stop")]).await?;
    if let Ok(mut checkpoints) = checkpoint_task.await
        && let Err(problem) = checkpoints.make().await
    {
        note(&format!("audit: the last checkpoint failed: {problem}"));
    }
    Ok(())
}

/// The audit entry with the settings that the server runs with: those of its file by their hash, and those
/// of the command line.
fn settings_entry(config: &Config) -> Entry {
    let (file, sha256) = config.read_from.clone().unzip();
    let file = file.unwrap_or_default();
    let said = json!({
        "sha256": sha256, "data": config.data, "intakes": config.intakes, "listen": config.listen.to_string(),
    });
    Entry::new(clock::now_us(), COMMAND_LINE, "config", file.display()).with(&said)
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Makes checkpoints until the server ends; returns the maker for the last one.
async fn watch_checkpoints(
    mut checkpoints: Checkpoints,
    mut ends: tokio::sync::watch::Receiver<bool>,
) -> Checkpoints {
    while tokio::time::timeout(CHECKPOINT_EVERY, ends.wait_for(|end| *end)).await.is_err() {
        if let Err(problem) = checkpoints.make().await {
            log::error!("audit: a checkpoint failed and is tried again in a minute: {problem}");
        }
    }
    checkpoints
}

/// Logs listening, until the server ends.
async fn watch_heard(app: Arc<App>) {
    let mut looks = tokio::time::interval(RECONCILE_EVERY);
    loop {
        looks.tick().await;
        app.log_heard(false).await;
    }
}

/// Looks at the room of disks until the server ends.
async fn watch_room(mut room: Room) {
    let mut looks = tokio::time::interval(RECONCILE_EVERY);
    loop {
        looks.tick().await;
        let looked = tokio::task::spawn_blocking(move || {
            room.look();
            room
        });
        let Ok(back) = looked.await else { return };
        room = back;
    }
}

/// What the catalogue knows of recordings that go on. Looks are on threads of their own, which may wait for
/// it.
fn begun(catalogue: Arc<dyn Catalogue>) -> Begun {
    let runtime = tokio::runtime::Handle::current();
    Box::new(move |device, recording| runtime.block_on(catalogue.begun(device, recording)).ok().flatten())
}

/// Watches the running recordings of an intake until the server ends.
async fn watch_live(mut live: Watch) {
    let mut looks = tokio::time::interval(LIVE_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let looked = tokio::task::spawn_blocking(move || {
            live.look(clock::now_us());
            live
        });
        let Ok(back) = looked.await else { return };
        live = back;
    }
}

/// Follows an intake until the server ends. A step that fails is tried again.
async fn watch(intake: Intake) {
    let mut journal = intake.journal();
    let mut looks = tokio::time::interval(JOURNAL_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reconciles = tokio::time::interval(RECONCILE_EVERY);
    reconciles.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = reconciles.tick() => match intake.reconcile(false).await {
                Ok(counts) if counts == Counts::default() => {}
                Ok(counts) => log::info!("intake: {}", told(counts)),
                Err(error) => log::error!("intake: {error}"),
            },
            _ = looks.tick() => match journal.news() {
                Ok(news) if news.is_empty() => {}
                Ok(news) => {
                    if let Err(error) = intake.take(news).await {
                        log::error!("intake: {error}");
                    }
                }
                Err(error) => log::warn!("intake: the journal can't be read: {error}"),
            },
        }
    }
}
