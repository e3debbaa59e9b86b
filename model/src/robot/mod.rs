//! Which user agents are robots', and why.
//!
//! The judgement goes on the record where a line is received, and is never a reason to
//! refuse one. Never looks at anything but the user agent and who speaks. What must
//! stay true: it is a function of its arguments, so that an import, a replay and a
//! rebuild judge alike; an empty user agent is no robot's; the libraries that server
//! side SDKs are built on make no robot, because such an SDK speaks for visitors.

mod words;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a user agent counts as a robot's. Where several fit, the first one stands.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RobotReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl RobotReason {
            /// Every reason, in the order in which they are preferred.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable name on records, in the raw archive and in the manual.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

reasons! {
    /// A service that asks whether a site is up or fast.
    Monitor = "monitor",
    /// A browser that a program drives, with nobody before it.
    Headless = "headless",
    /// It says of itself that it is a robot: crawlers, fetchers of previews.
    Declared = "declared",
    /// A command or library that fetches URLs. No page runs in one of these.
    HttpLibrary = "http_library",
}

/// Where a user agent comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentOrigin {
    /// The header of the request: whoever sent it.
    Header,
    /// The body: the visitor, as the application saw it.
    Body,
    /// A record that does not say. Both of the above must be right about it.
    Unknown,
}

/// Who sends, by `sdkName`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    /// A page, or a request that names no SDK.
    Page,
    /// An application that speaks for visitors.
    Server,
    /// An SDK that is not known here: an app, or a server side one to come.
    Other,
}

/// `sdkName` of the SDKs that run in pages, in any case.
const IN_PAGES: &[&str] = &["javascript", "react"];

/// `sdkName` of server side SDKs, in any case: their header names their library.
const ON_SERVERS: &[&str] = &[
    "python", "java", "go", "golang", "php", "ruby", "rust", "node", "nodejs", "csharp", "c#", "dotnet",
    ".net", "kotlin", "scala", "elixir",
];

impl Speaker {
    fn of(sdk_name: &str) -> Self {
        let is_in = |names: &[&str]| names.iter().any(|name| sdk_name.eq_ignore_ascii_case(name));
        if sdk_name.is_empty() || is_in(IN_PAGES) {
            Self::Page
        } else if is_in(ON_SERVERS) {
            Self::Server
        } else {
            Self::Other
        }
    }
}

impl RobotReason {
    /// Judges a user agent by its words alone. Use [`Self::holds`] on what it says.
    #[must_use]
    pub fn of_words(user_agent: &[u8]) -> Option<Self> {
        words::reason(user_agent)
    }

    /// Whether the reason stands, knowing where the user agent is from and who sent
    /// it. The header of a server side SDK says nothing about a visitor, and an SDK
    /// that is not known may be one of these.
    #[must_use]
    pub fn holds(self, origin: AgentOrigin, sdk_name: &str) -> bool {
        match (origin, Speaker::of(sdk_name)) {
            (AgentOrigin::Body, _) | (_, Speaker::Page) => true,
            (AgentOrigin::Header, Speaker::Server) => false,
            (_, Speaker::Other) | (AgentOrigin::Unknown, Speaker::Server) => self != Self::HttpLibrary,
        }
    }

    /// The whole judgement.
    #[must_use]
    pub fn of(user_agent: &[u8], origin: AgentOrigin, sdk_name: &str) -> Option<Self> {
        Self::of_words(user_agent).filter(|reason| reason.holds(origin, sdk_name))
    }

    /// How much of a user agent is read: more than any browser sends, and a bound to
    /// what judging a long one costs.
    pub const AGENT_BYTES_MAX: usize = 1_024;
}
