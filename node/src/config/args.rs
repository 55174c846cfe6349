//! The flags of `orama node run` and `orama dev`.
//!
//! Values stay text here: they are checked together with those of the
//! environment and the file, so that all three are refused in the same words.

use std::path::PathBuf;

use clap::Args;

/// Flags of `orama node run`.
#[derive(Debug, Clone, Default, Args)]
pub struct NodeRunArgs {
    #[command(flatten)]
    pub(super) settings: SettingArgs,
}

/// Flags of `orama dev`.
#[derive(Debug, Clone, Default, Args)]
pub struct DevArgs {
    #[command(flatten)]
    pub(super) settings: SettingArgs,
}

macro_rules! setting_args {
    (
        one { $($(#[$meta:meta])* $field:ident,)* }
        many { $($(#[$list_meta:meta])* $list:ident,)* }
    ) => {
        /// One flag for each setting.
        #[derive(Debug, Clone, Default, Args)]
        pub(super) struct SettingArgs {
            /// YAML file with settings, names in snake_case [env: ORAMA_CONFIG]
            #[arg(long, value_name = "FILE")]
            pub(super) config: Option<PathBuf>,
            $($(#[$meta])* pub(super) $field: Option<String>,)*
            $($(#[$list_meta])* pub(super) $list: Vec<String>,)*
        }

        /// Every setting's name, as it is written in the file.
        pub(super) const SETTINGS: &[&str] = &[$(stringify!($field),)* $(stringify!($list)),*];
        /// Those of them that may be given several times.
        pub(super) const LISTS: &[&str] = &[$(stringify!($list)),*];

        impl SettingArgs {
            /// The flag of this setting, when it was given; of a list, all of them.
            pub(super) fn flag(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($field) => self.$field.clone(),)*
                    $(stringify!($list) if !self.$list.is_empty() => Some(self.$list.join(",")),)*
                    _ => None,
                }
            }
            /// Gives a flag, as if it had been on the command line.
            #[cfg(test)]
            pub(super) fn give(&mut self, name: &str, value: &str) {
                match name {
                    $(stringify!($field) => self.$field = Some(value.to_owned()),)*
                    $(stringify!($list) => self.$list.push(value.to_owned()),)*
                    _ => panic!("no setting {name}"),
                }
            }
        }
    };
}

setting_args! {
    one {
        /// Name shown to people; unique in its cluster; identity is a key in the data directory [env: ORAMA_NODE_NAME] [default: host name]
        #[arg(long, value_name = "NAME")]
        node_name,
        /// Everything the node stores [env: ORAMA_DATA_DIR] [default: /var/lib/orama, dev: ./.orama]
        #[arg(long, value_name = "DIR")]
        data_dir,
        /// Address of the gateway; port 0 picks one [env: ORAMA_HTTP_ADDR] [default: 0.0.0.0:6001, dev: 127.0.0.1:6001]
        #[arg(long, value_name = "ADDR")]
        http_addr,
        /// Address of /metrics, /livez and /readyz; port 0 picks one [env: ORAMA_METRICS_ADDR] [default: 0.0.0.0:9090, dev: 127.0.0.1:6002]
        #[arg(long, value_name = "ADDR")]
        metrics_addr,
        /// Hosts `ns-NAME.DOMAIN` select namespace NAME [env: ORAMA_BASE_DOMAIN]
        #[arg(long, value_name = "DOMAIN")]
        base_domain,
        /// How long running requests may take to finish at shutdown, such as 30s [env: ORAMA_DRAIN_TIMEOUT] [default: 30s]
        #[arg(long, value_name = "TIME")]
        drain_timeout,
        /// What is logged: a level or a tracing filter [env: ORAMA_LOG] [default: info]
        #[arg(long, value_name = "FILTER")]
        log,
        /// `text` or `json` [env: ORAMA_LOG_FORMAT] [default: text on a terminal, else json; dev: text]
        #[arg(long, value_name = "FORMAT")]
        log_format,
        /// Threads that serve HTTP and run functions [env: ORAMA_WORKERS] [default: one per core]
        #[arg(long, value_name = "N")]
        workers,
        /// Functions that may run at once on this node [env: ORAMA_MAX_RUNNING] [default: 2048]
        #[arg(long, value_name = "N")]
        max_running,
        /// Functions of one namespace that may run at once on this node [env: ORAMA_MAX_RUNNING_PER_NAMESPACE] [default: 1024]
        #[arg(long, value_name = "N")]
        max_running_per_namespace,
        /// Invocations of one namespace that may wait for a place [env: ORAMA_MAX_QUEUED_PER_NAMESPACE] [default: 1024]
        #[arg(long, value_name = "N")]
        max_queued_per_namespace,
        /// How long an invocation may wait for a place [env: ORAMA_MAX_QUEUE_WAIT] [default: 10s]
        #[arg(long, value_name = "TIME")]
        max_queue_wait,
        /// HTTP connections of one worker [env: ORAMA_MAX_CONNECTIONS] [default: 8192]
        #[arg(long, value_name = "N")]
        max_connections,
        /// File with the master key, instead of ORAMA_MASTER_KEY [env: ORAMA_MASTER_KEY_FILE]
        #[arg(long, value_name = "FILE")]
        master_key_file,
        /// File with the administrative token, instead of ORAMA_ADMIN_TOKEN [env: ORAMA_ADMIN_TOKEN_FILE]
        #[arg(long, value_name = "FILE")]
        admin_token_file,
        /// File with the cluster secret, instead of ORAMA_CLUSTER_SECRET [env: ORAMA_CLUSTER_SECRET_FILE]
        #[arg(long, value_name = "FILE")]
        cluster_secret_file,
        /// Form a new cluster once so many nodes without data see each other; 0 never forms one [env: ORAMA_BOOTSTRAP_EXPECT] [default: 1, with --join: 0]
        #[arg(long, value_name = "N")]
        bootstrap_expect,
        /// A snapshot of the metadata is made after so many changes, of a data group after 20 times as many [env: ORAMA_SNAPSHOT_EVERY] [default: 5000]
        #[arg(long, value_name = "N")]
        snapshot_every,
        /// Groups that hold the namespaces' data, fixed when a cluster is formed [env: ORAMA_DATA_GROUPS] [default: 4]
        #[arg(long, value_name = "N")]
        data_groups,
        /// Replace a node's replicas when it has been out of contact for so long [env: ORAMA_REPLACE_AFTER] [default: 5m]
        #[arg(long, value_name = "TIME")]
        replace_after,
        /// How large a namespace's database may become, in bytes or with KiB, MiB, GiB [env: ORAMA_DATABASE_MAX_BYTES] [default: 1GiB]
        #[arg(long, value_name = "SIZE")]
        database_max_bytes,
    }
    many {
        /// Where other nodes reach this one; may be repeated; needs ORAMA_CLUSTER_SECRET [env: ORAMA_MESH_LISTEN] [default: /ip4/0.0.0.0/tcp/4001]
        #[arg(long, value_name = "MULTIADDR")]
        mesh_listen,
        /// Address told to other nodes, when it is not the one listened on; may be repeated [env: ORAMA_MESH_ADVERTISE]
        #[arg(long, value_name = "MULTIADDR")]
        mesh_advertise,
        /// A member to join: a multiaddress such as /ip4/10.0.0.1/tcp/4001, or dns:NAME:PORT; may be repeated [env: ORAMA_JOIN, with commas]
        #[arg(long, value_name = "ADDRESS")]
        join,
    }
}
