//! What an online shop behind a web application firewall sees: hosts, paths, clients, attacks.

pub(super) const HOSTS: &[(&str, &str)] = &[
    ("www.shop.example", "www.shop.example-waf"),
    ("api.shop.example", "*.shop.example-waf"),
    ("m.shop.example", "*.shop.example-waf"),
    ("pay.shop.example", "pay.shop.example-waf"),
    ("static.cdn.example", "static.cdn.example-waf"),
    ("login.bank.example", "alb-8xk2q7w0z1m3-443"),
];

pub(super) const METHODS: &[&str] =
    &["GET", "GET", "GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "OPTIONS"];

pub(super) const PATHS: &[&str] = &[
    "/",
    "/index.html",
    "/robots.txt",
    "/favicon.ico",
    "/api/v1/cart/checkout",
    "/api/v1/catalog/search",
    "/api/v2/user/profile/avatar",
    "/static/js/vendor.3f2a91c8.min.js",
    "/static/css/site.7b10e4.css",
    "/category/electronics/phones/list.html",
    "/category/%E6%89%8B%E6%9C%BA/list.html",
    "/wp-login.php",
    "/.git/config",
    "/actuator/health",
    "/pay/callback/alipay/notify",
    "/images/banner/2025/10/double-eleven.webp",
];

pub(super) const PARAMETERS: &[&str] = &[
    "page",
    "size",
    "sort",
    "q",
    "lang",
    "utm_source",
    "spm",
    "session",
    "callback",
    "_",
    "id",
    "token",
    "from",
    "scene",
    "trackid",
    "sign",
];

pub(super) const AGENTS: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.49(0x1800312b) NetType/WIFI Language/zh_CN",
    "Mozilla/5.0 (Linux; Android 14; 23127PN0CC Build/UKQ1.230804.001) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/116.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:129.0) Gecko/20100101 Firefox/129.0",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "curl/8.5.0",
    "python-requests/2.32.3",
    "okhttp/4.12.0",
    "sqlmap/1.8.4#stable (https://sqlmap.org)",
    "-",
];

pub(super) const REFERERS: &[&str] = &[
    "-",
    "-",
    "https://www.shop.example/",
    "https://www.shop.example/category/electronics/phones/list.html?page=3&sort=price_asc",
    "https://www.baidu.com/link?url=8xQvJ2mUuR3sVYb0kq1k&wd=&eqid=d1c9a2f600a0b1c2",
    "https://m.shop.example/item/778812.html",
    "android-app://com.tencent.mm/",
];

pub(super) const CONTENT_TYPES: &[&str] = &[
    "-",
    "application/json",
    "application/x-www-form-urlencoded; charset=UTF-8",
    "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
    "text/xml",
];

pub(super) const ACCEPTS: &[&str] = &[
    "*/*",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "application/json, text/plain, */*",
    "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
];

pub(super) const LANGUAGES: &[&str] =
    &["zh-CN,zh;q=0.9,en;q=0.8", "en-US,en;q=0.5", "de-DE,de;q=0.9", "ja", "zh-TW,zh;q=0.9"];

pub(super) const CIPHERS: &[(&str, &str)] = &[
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384"),
];

pub(super) const STATUSES: &[&str] =
    &["200", "200", "200", "200", "200", "200", "206", "301", "302", "304", "404", "499", "502"];

pub(super) const REGIONS: &[&str] = &["cn", "cn", "cn", "int"];

pub(super) const BODIES: &[&str] = &[
    "{\"sku\":\"A-778812\",\"qty\":2,\"coupon\":null,\"note\":\"\"}",
    "username=alice%40shop.example&password=******&remember=1&captcha=7q2k",
    "<order><id>20251011-000381</id><amount currency=\"CNY\">1299.00</amount></order>",
    "{\"query\":\"mutation($i:Int!){cart(add:$i){total,lines{sku}}}\",\"variables\":{\"i\":4411}}",
];

/// Final action, plugin, the module's key prefix, rule type.
pub(super) const VERDICTS: &[(&str, &str, &Module, &str)] = &[
    ("block", "waf", &WAF, "sqli"),
    ("block", "waf", &WAF, "xss"),
    ("block", "waf", &WAF, "code_exec"),
    ("block", "acl", &ACL, "custom"),
    ("captcha", "cc", &CC, "custom"),
    ("js", "antiscan", &ANTISCAN, "highfreq"),
    ("captcha_strict", "scene", &SCENE, "js"),
    ("sigchl", "scene", &SCENE, "sdk"),
];

/// The keys under which one protection module reports.
pub(super) struct Module {
    pub(super) action: &'static str,
    pub(super) rule_id: &'static str,
    pub(super) rule_type: &'static str,
    pub(super) test: &'static str,
}

const WAF: Module = Module {
    action: "waf_action",
    rule_id: "waf_rule_id",
    rule_type: "waf_rule_type",
    test: "waf_test",
};
const ACL: Module = Module {
    action: "acl_action",
    rule_id: "acl_rule_id",
    rule_type: "acl_rule_type",
    test: "acl_test",
};
const CC: Module = Module {
    action: "cc_action",
    rule_id: "cc_rule_id",
    rule_type: "cc_rule_type",
    test: "cc_test",
};
const ANTISCAN: Module = Module {
    action: "antiscan_action",
    rule_id: "antiscan_rule_id",
    rule_type: "antiscan_rule_type",
    test: "antiscan_test",
};
const SCENE: Module = Module {
    action: "scene_action",
    rule_id: "scene_rule_id",
    rule_type: "scene_rule_type",
    test: "scene_test",
};
