//! A fresh, migrated database a test, copied from a template that is made once a run.

use secrecy::ExposeSecret;
use tokio::sync::OnceCell;
use tokio_postgres::Client;
use uuid::Uuid;
use watchbell::config::Config;
use watchbell::db::{migrations, partitions, pool};

static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// A database that ends with the test.
pub struct TestDatabase {
    /// Settings whose `database.url` names it.
    pub config: Config,
    /// A connection as the owner, to arrange rows with.
    pub owner: Client,
    /// Empty if the test brought its own server: then the database goes with that.
    name: String,
}

impl TestDatabase {
    /// A copy of the template.
    pub async fn new() -> Self {
        Self::copy(TEMPLATE.get_or_init(make_template).await, "").await
    }

    /// A database without migrations.
    pub async fn empty() -> Self {
        Self::copy("template1", "").await
    }

    /// One in which not every text can be written.
    pub async fn in_latin1() -> Self {
        Self::copy("template0", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'").await
    }

    async fn copy(template: &str, options: &str) -> Self {
        let name = format!("t_{}", Uuid::now_v7().simple());
        let server = connect(&server_config()).await;
        let copy = format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log {options}");
        server.batch_execute(&copy).await.unwrap();
        let config = config_for(&name);
        let owner = connect(&config).await;
        Self { config, owner, name }
    }

    /// The database of a server of the test's own, migrated.
    pub async fn at(url: &str) -> Self {
        let config =
            Config::from_sources(None, [("DATABASE_URL".to_owned(), url.to_owned())].into()).unwrap();
        let mut owner = connect(&config).await;
        migrations::migrate(&mut owner).await.unwrap();
        partitions::ensure_ahead(&owner).await.unwrap();
        Self { config, owner, name: String::new() }
    }

    /// After the server was away.
    pub async fn reconnect(&mut self) {
        self.owner = connect(&self.config).await;
    }

    /// Takes the database away under whoever uses it.
    pub async fn vanish(&self) {
        let server = connect(&server_config()).await;
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await.unwrap();
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = self.name.clone();
        if name.is_empty() {
            return;
        }
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = connect(&server_config()).await;
                let _ = server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
            });
        });
        let _ = dropping.join();
    }
}

async fn make_template() -> String {
    let name = format!("template_{}", Uuid::now_v7().simple());
    let server = connect(&server_config()).await;
    server.batch_execute(&format!("CREATE DATABASE {name} STRATEGY wal_log")).await.unwrap();
    let mut client = connect(&config_for(&name)).await;
    migrations::migrate(&mut client).await.unwrap();
    partitions::ensure_ahead(&client).await.unwrap();
    // A database with connections can't be copied.
    drop(client);
    let idle = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'");
    while server.query_one(&idle, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::task::yield_now().await;
    }
    name
}

async fn connect(config: &Config) -> Client {
    pool::connect_owner(&config.database).await.unwrap()
}

fn server_config() -> Config {
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names the PostgreSQL for the tests");
    Config::from_sources(None, [("DATABASE_URL".to_owned(), url)].into()).unwrap()
}

fn config_for(database: &str) -> Config {
    let server = server_config();
    let url = server.database.url.expose_secret();
    let (address, parameters) = url.split_once('?').map_or((url, ""), |(a, p)| (a, p));
    let (host, _) = address.rsplit_once('/').expect("DATABASE_URL ends with /database");
    let url = if parameters.is_empty() {
        format!("{host}/{database}")
    } else {
        format!("{host}/{database}?{parameters}")
    };
    Config::from_sources(None, [("DATABASE_URL".to_owned(), url)].into()).unwrap()
}
