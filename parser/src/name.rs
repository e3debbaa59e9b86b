//! The parameter names of the protocol, and the pairs of a line.

/// Walks the `name=value` pairs of a line. Empty pairs are skipped; a pair
/// without `=` has an empty value; `userAgent` runs to the end of the line.
pub(crate) struct Pairs<'a> {
    line: &'a [u8],
    at: usize,
    agent_ends_the_line: bool,
}

/// One pair, and where its value starts.
pub(crate) struct Pair<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) start: usize,
}

impl<'a> Pairs<'a> {
    pub(crate) fn of_line(line: &'a [u8]) -> Self {
        Self { line, at: 0, agent_ends_the_line: true }
    }

    /// A query may name its site behind the user agent, which is encoded there.
    pub(crate) fn of_query(query: &'a [u8]) -> Self {
        Self { line: query, at: 0, agent_ends_the_line: false }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pair<'a>> {
        while self.at < self.line.len() {
            let from = self.at;
            let rest = &self.line[from..];
            // Names are short: looking at their bytes costs less than a search.
            let Some(length) = rest.iter().position(|b| matches!(b, b'&' | b'=')) else {
                self.at = self.line.len();
                return Some(Pair { name: rest, value: &[], start: self.at });
            };
            let name = &rest[..length];
            let start = from + length + 1;
            if rest[length] == b'&' {
                self.at = start;
                if length > 0 {
                    return Some(Pair { name, value: &[], start });
                }
                continue;
            }
            let after = &rest[length + 1..];
            if self.agent_ends_the_line && name == USER_AGENT {
                self.at = self.line.len();
                return Some(Pair { name, value: after, start });
            }
            let end = memchr::memchr(b'&', after).unwrap_or(after.len());
            self.at = start + end + 1;
            return Some(Pair { name, value: &after[..end], start });
        }
        None
    }
}

const USER_AGENT: &[u8] = b"userAgent";

macro_rules! names {
    ($($variant:ident = $text:literal,)+) => {
        /// A name that the protocol gives a meaning. Exact, never encoded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(clippy::enum_variant_names, reason = "`sdkName` is a name of the protocol")]
        pub(crate) enum Name {
            $($variant,)+
        }

        impl Name {
            pub(crate) const COUNT: usize = [$($text.len(),)+].len();

            pub(crate) fn of(name: &[u8]) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

names! {
    Kind = b"eventType",
    Nonce = b"nonce",
    VisitorCode = b"visitorCode",
    MappingValue = b"mappingValue",
    UserAgent = b"userAgent",
    DeviceType = b"deviceType",
    Browser = b"browser",
    BrowserIndex = b"browserIndex",
    BrowserVersion = b"browserVersion",
    Os = b"os",
    OsIndex = b"osIndex",
    VisitNumber = b"visitNumber",
    TimeSincePreviousVisit = b"timeSincePreviousVisit",
    Country = b"country",
    Region = b"region",
    City = b"city",
    PostalCode = b"postalCode",
    Latitude = b"latitude",
    Longitude = b"longitude",
    Index = b"index",
    ValuesCountMap = b"valuesCountMap",
    Overwrite = b"overwrite",
    MappingIdentifier = b"mappingIdentifier",
    Href = b"href",
    Title = b"title",
    ReferrersIndices = b"referrersIndices",
    Id = b"id",
    VariationId = b"variationId",
    GoalId = b"goalId",
    Revenue = b"revenue",
    Negative = b"negative",
    Metadata = b"metadata",
    SiteCode = b"siteCode",
    SdkName = b"sdkName",
    SdkVersion = b"sdkVersion",
    BodyUa = b"bodyUa",
}

impl Name {
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// Names of the request, which stand beside the event in the query of a GET.
    pub(crate) fn is_of_the_request(self) -> bool {
        const REQUEST: u64 =
            Name::SiteCode.bit() | Name::SdkName.bit() | Name::SdkVersion.bit() | Name::BodyUa.bit();
        self.bit() & REQUEST != 0
    }
}

const _: () = assert!(Name::COUNT <= 64, "names are kept as bits of a u64");
