//! Other proxies in front of this one and behind it: who is believed, and what is passed on. The options are the
//! configuration.

use crate::config::network::{Network, Networks};
use crate::config::proxy::Forwarded;
use clap::{Args, ValueEnum};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Whose `X-Forwarded-*` is believed and added to, while that of others is replaced. If it is empty,
    /// [`Forwarded`] holds for everybody.
    pub trusted: Networks,
    /// Whose connections begin with a PROXY header, and have to.
    pub proxy_protocol: Networks,
    /// Connections to servers begin with a PROXY header, and are for one client each.
    pub send_proxy: Option<SendProxy>,
}

/// The form of a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SendProxy {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// What is written on the command line.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Forwarding")]
pub struct ChainOptions {
    /// Proxies whose X-Forwarded-* is believed
    #[arg(long, value_name = "NETWORK,...", value_delimiter = ',', value_parser = Network::parse)]
    trusted_proxies: Vec<Network>,

    /// Who begins connections with a PROXY header
    #[arg(long, value_name = "NETWORK,...", value_delimiter = ',', value_parser = Network::parse)]
    proxy_protocol: Vec<Network>,

    /// Begin connections to servers with a PROXY header
    #[arg(long, value_name = "v1|v2", hide_possible_values = true)]
    send_proxy: Option<SendProxy>,
}

impl ChainOptions {
    /// What they come to. A mode that believes nobody does not go with a list of who is believed.
    pub fn check(self, forwarded: Forwarded) -> Result<Chain, String> {
        let mode = match forwarded {
            Forwarded::Append => None,
            Forwarded::Replace => Some("replace"),
            Forwarded::Off => Some("off"),
        };
        if let Some(mode) = mode.filter(|_| !self.trusted_proxies.is_empty()) {
            return Err(format!(
                "--trusted-proxies says whose X-Forwarded-* is believed, and with --forwarded {mode} nobody's is: \
                 leave one of them out"
            ));
        }
        Ok(Chain {
            trusted: self.trusted_proxies.into_iter().collect(),
            proxy_protocol: self.proxy_protocol.into_iter().collect(),
            send_proxy: self.send_proxy,
        })
    }
}
